// TextCodec over the tokenizer and templates of the text room.
#pragma once

#include <memory>
#include <string>

#include "mlxlm/model.h"
#include "text/output_parser.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

namespace mlxlm {

class Codec final : public TextCodec {
 public:
  // `path`: a folder or a .gguf file.
  explicit Codec(const std::string& path);

  std::vector<int> encode(std::string_view text, bool special) const override;
  std::string decode(std::span<const int> ids, bool skip_special)
      const override;
  int token_id(std::string_view token) const override;
  int vocab_size() const override;
  const std::set<int>& eos_tokens() const override {
    return eos_;
  }
  bool has_chat_template() const override;
  std::string render(const TemplateInput& input) const override;
  std::vector<int> apply_chat_template(
      const TemplateInput& input) const override;

  // As far as tokenizer and templates tell.
  Capabilities capabilities() const;
  const TokenizerPtr& tokenizer() const {
    return tokenizer_;
  }

 private:
  TokenizerPtr tokenizer_;
  Prompter prompter_;
  std::set<int> eos_;
};

// How a loaded model writes reasoning and tool calls.
OutputFormat output_format(const ModelContainer& model);
// A tool_choice as a format: an answer that is a call of one of `tools` (JSON
// text), or of the one that is named. Throws Error(request) where that cannot
// be forced.
ResponseFormat forced_call(
    const ModelContainer& model,
    std::string_view tools,
    std::string_view name = {},
    bool several = false);

} // namespace mlxlm

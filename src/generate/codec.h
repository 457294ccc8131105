// TextCodec over the tokenizer and templates of the text room.
#pragma once

#include <memory>
#include <string>

#include "mlxlm/model.h"
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

} // namespace mlxlm

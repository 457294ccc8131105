// Text in, tokens out and back, and chat templates: everything textual of a
// model, without weights and without starting the array engine.
//
//   auto codec = TextCodec::load("smollm2");
//   auto ids = codec->encode("Why is the sky blue?");
//   auto text = codec->decode(ids);
#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

// What a chat template renders. JSON travels as text.
struct TemplateInput {
  std::string messages; // JSON list of messages
  std::string tools = {}; // JSON list, or empty: none
  std::string kwargs = {}; // JSON object of extra variables, or empty
  bool add_generation_prompt = false;
};

class TextCodec {
 public:
  // `reference`: see model.h. Reads tokenizer.json or GGUF metadata. Throws
  // Error(text), Error(config), Error(io).
  static std::shared_ptr<const TextCodec> load(std::string_view reference);
  virtual ~TextCodec() = default;

  // `special`: what the tokenizer's post-processor adds (a BOS, say). Special
  // tokens spelled in the text are always recognised.
  virtual std::vector<int> encode(std::string_view text, bool special = true)
      const = 0;
  virtual std::string decode(
      std::span<const int> ids,
      bool skip_special = false) const = 0;
  // The id of exactly this token, or -1.
  virtual int token_id(std::string_view token) const = 0;
  virtual int vocab_size() const = 0;
  // Ids that end an answer: config, generation_config and tokenizer together.
  virtual const std::set<int>& eos_tokens() const = 0;

  // Whether the model carries a chat template.
  virtual bool has_chat_template() const = 0;
  // The rendered text, byte for byte. Throws Error(text) when the template
  // raises.
  virtual std::string render(const TemplateInput& input) const = 0;
  // Rendered and encoded (the template spells special tokens itself); throws as
  // render().
  virtual std::vector<int> apply_chat_template(
      const TemplateInput& input) const = 0;
};
using TextCodecPtr = std::shared_ptr<const TextCodec>;

// Renders a template given as text. `bos`, `eos`: the template's bos_token and
// eos_token.
std::string render_template(
    std::string_view source,
    const TemplateInput& input,
    std::string_view bos = {},
    std::string_view eos = {});

} // namespace mlxlm

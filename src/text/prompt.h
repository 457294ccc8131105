// From a conversation or a text to the ids a model reads.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace mlxlm {

// Renders and encodes conversations for one tokenizer. May be used from several
// threads at once; a template is compiled when it is first used.
class Prompter {
 public:
  // Takes the tokenizer's own chat templates, or `chat_template` if given.
  explicit Prompter(
      TokenizerPtr tokenizer,
      std::optional<std::string> chat_template = {});

  bool has_template() const {
    return !templates_.empty();
  }
  // A conversation as text. With tools, the template named "tool_use" is
  // preferred. Throws Error(text) when there is no template.
  std::string render(ChatVariables variables, bool continue_final = false)
      const;
  // A conversation as ids. The template spells special tokens itself; a BOS is
  // added only where the tokenizer says so and the text does not have it.
  std::vector<int> encode_chat(
      ChatVariables variables,
      bool continue_final = false) const;
  // Ids of a rendered conversation.
  std::vector<int> encode_rendered(const std::string& text) const;
  // A plain prompt: special tokens are added, unless the text already begins
  // with BOS.
  std::vector<int> encode_plain(const std::string& text) const;

  const Tokenizer& tokenizer() const {
    return *tokenizer_;
  }

 private:
  const ChatTemplate& choose(bool tools) const;

  struct Lazy {
    std::string source;
    std::once_flag once;
    std::optional<ChatTemplate> compiled;
  };

  TokenizerPtr tokenizer_;
  std::map<std::string, std::unique_ptr<Lazy>, std::less<>> templates_;
};

// The ChatML format, for models that carry no template but were trained on it.
extern const char* const chatml_template;

} // namespace mlxlm

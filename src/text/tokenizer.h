// Text to token ids and back. The tokenizers themselves are Rust (rust/).
//
//   auto tokenizer = Tokenizer::from_directory("models/smollm2");
//   auto ids = tokenizer->encode("Why is the sky blue?");
//   auto text = tokenizer->decode(ids);
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

struct mlxlm_tokenizer;

namespace mlxlm {

struct EncodeOptions {
  bool add_special = true; // what the post-processor adds: BOS, EOS ...
  bool parse_special = true; // special tokens spelled in the text are tokens
  std::size_t max_bytes = std::size_t{64} << 20; // longer texts are refused
};

// Everything that is known about the tokens of a text or a pair of texts.
struct Encoding {
  std::vector<int> ids;
  std::vector<int> type_ids; // 0, and 1 in the second text of a pair
  std::vector<int> special_mask; // 1 for what the post-processor added
  std::vector<std::string> tokens;
  std::vector<std::pair<int, int>> offsets; // in characters: [begin, end)
};

// What a tokenizer's files say beside the vocabulary.
struct TokenizerInfo {
  // bos_token, eos_token, unk_token, pad_token ...: the names that chat
  // templates see, and the strings.
  std::map<std::string, std::string> special_tokens;
  // "default", "tool_use" ...: sources of the chat templates.
  std::map<std::string, std::string> chat_templates;
  // How the model writes tool calls, where its files name it.
  std::string tool_parser_type;
  std::set<int> eos_ids; // tokens that end an answer
  // A rendered chat prompt that does not begin with BOS gets one.
  bool bos_before_chat = false;
};

class Tokenizer;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

// Immutable; may be used from several threads at once.
class Tokenizer {
 public:
  // A folder with tokenizer.json and, if they are there, tokenizer_config.json,
  // special_tokens_map.json, chat_template.jinja. Throws Error(text | config |
  // io).
  static TokenizerPtr from_directory(const std::string& path);
  // The text of a tokenizer.json alone. `where` names it in errors.
  static TokenizerPtr from_json(
      std::string_view json,
      std::string_view where = "tokenizer.json",
      TokenizerInfo info = {});

  // Takes the handle. `where` names the origin in errors.
  Tokenizer(mlxlm_tokenizer* handle, std::string where, TokenizerInfo info);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Throws Error(text) for invalid UTF-8 and texts beyond `max_bytes`.
  std::vector<int> encode(std::string_view text, const EncodeOptions& = {})
      const;
  Encoding analyze(std::string_view text, const EncodeOptions& = {}) const;
  Encoding analyze(
      std::string_view text,
      std::string_view pair,
      const EncodeOptions& = {}) const;

  // Ids that are no tokens are left out; negative ones throw Error(request).
  std::string decode(std::span<const int> ids, bool skip_special = false) const;

  // The token's string as the vocabulary spells it ("Ġthe", "▁the", "<0x0A>").
  std::optional<std::string> token(int id) const;
  // The id of exactly this token, or -1.
  int id_of(std::string_view token) const;
  bool is_special(int id) const;
  // Number of tokens, added ones included.
  int vocab_size() const;

  const TokenizerInfo& info() const {
    return info_;
  }
  // The string of bos_token, eos_token ...; empty when there is none.
  std::string_view special_token(std::string_view name) const;
  // The Rust tokenizer, which lives as long as this.
  const mlxlm_tokenizer* handle() const {
    return handle_.get();
  }
  // How ids become text: the "decoder" of a tokenizer.json.
  const Json& decoder() const {
    return decoder_;
  }

 private:
  Encoding analyze(
      std::string_view,
      const std::string_view*,
      const EncodeOptions&) const;
  void check_text(std::string_view text, const EncodeOptions& options) const;

  struct Free {
    void operator()(mlxlm_tokenizer* handle) const;
  };
  std::unique_ptr<mlxlm_tokenizer, Free> handle_;
  std::string where_;
  TokenizerInfo info_;
  Json decoder_;
  std::set<int> special_ids_;
  int vocab_size_ = 0;
};

} // namespace mlxlm

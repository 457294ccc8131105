// A tokenizer from the metadata of a GGUF file, without JSON: its arrays go to
// the tables as they are.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"

namespace mlxlm {

// The keys below tokenizer.ggml, by their own names. Views are read during the
// call only.
struct GgufTokenizer {
  std::string model; // "gpt2": byte-level BPE, "llama": SentencePiece BPE
  std::string pre; // how "gpt2" splits words: "smollm", "llama-bpe" ...
  std::vector<std::string_view> tokens;
  std::vector<float> scores; // "llama" only
  std::vector<int> token_type; // empty: all normal
  std::vector<std::string_view> merges; // "gpt2" only
  // NAME -> id for every tokenizer.ggml.NAME_token_id: bos, eos, eot, eom,
  // unknown, separator, padding, mask.
  std::map<std::string, int> ids;
  std::optional<bool> add_bos_token, add_eos_token, add_space_prefix;
  // tokenizer.chat_template as "default", tokenizer.chat_template.NAME as NAME.
  std::map<std::string, std::string> chat_templates;
};

// Throws Error(text): an unknown model or pre names the known ones, and arrays
// that do not fit each other are refused. `where` names the file.
TokenizerPtr tokenizer_from_gguf(
    const GgufTokenizer& gguf,
    std::string_view where);

// The text of a tokenizer.json that encodes and decodes alike.
std::string tokenizer_json_from_gguf(
    const GgufTokenizer& gguf,
    std::string_view where);

// What both are made from: a tokenizer.json without its "model".
struct GgufTokenizerShell {
  Json json;
  bool ignore_merges = false;
  std::int64_t unknown = -1; // id
};
GgufTokenizerShell gguf_tokenizer_shell(
    const GgufTokenizer& gguf,
    std::string_view where);

} // namespace mlxlm

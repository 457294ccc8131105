// How byte-level BPE tokenizers split text into words, by the names that GGUF
// files use (tokenizer.ggml.pre).
#pragma once

#include <span>
#include <string_view>

namespace mlxlm::text {

struct PreTokenizer {
  std::span<const std::string_view> names;
  // Regular expressions, applied one after the other; matches and what lies
  // between are words.
  std::span<const std::string_view> patterns;
  bool ignore_merges = false; // a word that is a token is taken as a whole
  bool add_bos = false; // unless the file says otherwise
  bool nfc = false; // text is brought to Unicode NFC first
};

// Throws Error(text) naming the known ones.
const PreTokenizer& pre_tokenizer(
    std::string_view name,
    std::string_view where);

} // namespace mlxlm::text

// Small tokenizers for tests.
#pragma once

#include <string>

#include "text/gguf_tokenizer.h"

namespace mlxlm::text {

// Byte-level BPE over every byte, with a few merges and two special tokens.
class SmallVocabulary {
 public:
  SmallVocabulary() {
    for (int b = 0, next = 256; b < 256; ++b) {
      bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) ||
          (b >= 0xAE && b <= 0xFF);
      storage_.push_back(utf8(printable ? b : next++));
    }
    for (const char* token :
         {"he", "ll", "hell", "hello", "<|start|>", "<|end|>", "<think>"}) {
      storage_.emplace_back(token);
    }
    merges_ = {"h e", "l l", "he ll", "hell o"};
    gguf.model = "gpt2";
    gguf.pre = "gpt-2";
    gguf.tokens.assign(storage_.begin(), storage_.end());
    gguf.merges.assign(merges_.begin(), merges_.end());
    gguf.token_type.assign(storage_.size(), 1);
    gguf.token_type[260] = gguf.token_type[261] = 3;
    gguf.token_type[262] = 4;
    gguf.ids = {{"bos", 260}, {"eos", 261}};
  }

  GgufTokenizer gguf;

 private:
  static std::string utf8(int c) {
    if (c < 0x80) {
      return {static_cast<char>(c)};
    }
    return {
        static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  }

  std::vector<std::string> storage_, merges_;
};

} // namespace mlxlm::text

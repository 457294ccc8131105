// Ids to text while they are generated: never half a character, and all pieces
// together are exactly what decoding all ids at once gives.
//
//   Detokenizer detokenizer(tokenizer);
//   shown += detokenizer.push(id);  // for every token
//   shown += detokenizer.finish();  // at the end
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace mlxlm {

namespace text {
// One step of a tokenizer's "decoder", fed token by token. `push` and `finish`
// append to `out` what is certain.
class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  virtual void push(std::string piece, std::vector<std::string>& out) = 0;
  virtual void finish(std::vector<std::string>& out) {}
};
} // namespace text

class Detokenizer {
 public:
  // Throws Error(text) when the tokenizer's decoder has a step that cannot be
  // streamed.
  explicit Detokenizer(TokenizerPtr tokenizer, bool skip_special = false);

  // The text that became complete with this token. Ids that are no tokens give
  // nothing.
  std::string push(int id);
  // What was held back: bytes that never became a character are U+FFFD.
  std::string finish();
  // Forgets everything, to begin a new text.
  void reset();

 private:
  std::string run(std::size_t first, std::vector<std::string> pieces);

  TokenizerPtr tokenizer_;
  bool skip_special_;
  std::vector<std::unique_ptr<text::DecodeStage>> stages_;
};

namespace text {
// The stages of a "decoder" as a tokenizer.json has it; null: tokens joined by
// spaces.
std::vector<std::unique_ptr<DecodeStage>> decode_stages(const Json& decoder);
} // namespace text

} // namespace mlxlm

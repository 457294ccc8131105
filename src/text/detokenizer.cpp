#include "text/detokenizer.h"

#include <utility>

namespace mlxlm {

Detokenizer::Detokenizer(TokenizerPtr tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {
  reset();
}

void Detokenizer::reset() {
  stages_ = text::decode_stages(tokenizer_->decoder());
}

std::string Detokenizer::push(int id) {
  if (skip_special_ && tokenizer_->is_special(id)) {
    return {};
  }
  auto piece = tokenizer_->token(id);
  if (!piece) {
    return {};
  }
  std::vector<std::string> pieces;
  pieces.push_back(std::move(*piece));
  return run(0, std::move(pieces));
}

std::string Detokenizer::finish() {
  std::string text;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    std::vector<std::string> pieces;
    stages_[i]->finish(pieces);
    text += run(i + 1, std::move(pieces));
  }
  return text;
}

// Sends pieces through the stages from `first` on.
std::string Detokenizer::run(
    std::size_t first,
    std::vector<std::string> pieces) {
  for (std::size_t i = first; i < stages_.size(); ++i) {
    std::vector<std::string> next;
    for (auto& piece : pieces) {
      stages_[i]->push(std::move(piece), next);
    }
    pieces = std::move(next);
  }
  std::string text;
  for (const auto& piece : pieces) {
    text += piece;
  }
  return text;
}

} // namespace mlxlm

#include "generate/drafting/verify.h"

#include <algorithm>

namespace mlxlm {

void Draft::cut(int count) {
  auto most = static_cast<std::size_t>(std::max(count, 0));
  if (tokens.size() > most) tokens.resize(most);
  if (from.size() > most) from.resize(most);
}

std::vector<Sampled> verify(
    Sampler& sampler,
    std::span<const float> logits,
    const Draft& draft) {
  std::size_t guesses = draft.tokens.size();
  std::size_t vocab = logits.size() / (guesses + 1);
  std::vector<Sampled> drawn;
  for (std::size_t i = 0; i <= guesses; ++i) {
    auto row = logits.subspan(i * vocab, vocab);
    bool by_chance = i < guesses && !draft.from.empty();
    drawn.push_back(
        by_chance ? sampler.accept(row, {draft.tokens[i], draft.from[i]})
                  : sampler.next(row));
    if (i < guesses && drawn.back().token != draft.tokens[i]) break;
  }
  return drawn;
}

} // namespace mlxlm

// DRY ("don't repeat yourself", p-e-w; as in llama.cpp): a token that would
// make a repetition of dry_allowed_length tokens or more longer is punished by
// multiplier * base^(length - allowed). Repetitions do not reach across
// breakers.
#include <algorithm>
#include <cmath>
#include <map>

#include "generate/sampling/stages.h"

namespace mlxlm {
namespace {

// Largest exponent before a float overflows; longer repetitions are punished
// alike, so they are not measured.
int most_exponent(double base) {
  double most = base > 1.000001 ? 88.7228391 / std::log(base) : 0;
  return static_cast<int>(std::clamp(most, 64.0, 4096.0));
}

} // namespace

void dry(
    std::span<float> row,
    const SamplingParameters& p,
    const StageContext& context) {
  auto text = context.history;
  if (p.dry_penalty_last_n >= 0)
    text = text.last(
        std::min(text.size(), static_cast<std::size_t>(p.dry_penalty_last_n)));
  auto end = static_cast<int>(text.size());
  const auto& breakers = p.dry_breaker_tokens;
  int reach = 0; // tokens since the last breaker
  while (reach < end &&
         std::find(breakers.begin(), breakers.end(), text[end - 1 - reach]) ==
             breakers.end())
    ++reach;
  if (reach < p.dry_allowed_length) return;

  int limit = most_exponent(p.dry_base);
  reach = std::min(reach, p.dry_allowed_length + limit);
  std::map<int, int> longest; // of each token that would go on
  for (int at = end - 1; at >= 1; --at) {
    int length = 0, most = std::min(reach, at);
    while (length < most && text[at - 1 - length] == text[end - 1 - length])
      ++length;
    if (length < p.dry_allowed_length) continue;
    int& known = longest[text[at]];
    known = std::max(known, length);
  }
  for (auto [token, length] : longest)
    row[token] -= static_cast<float>(
        p.dry_multiplier *
        std::pow(double(p.dry_base), length - p.dry_allowed_length));
}

} // namespace mlxlm

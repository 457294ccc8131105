// DRY ("don't repeat yourself", p-e-w; as in llama.cpp): a token that would
// make a repetition of dry_allowed_length tokens or more longer is punished by
// multiplier * base^(length - allowed). Repetitions do not reach across
// breakers, and tokens that are breakers go unpunished.
#include <algorithm>
#include <cmath>
#include <map>

#include "generate/sampling/stages.h"

namespace mlxlm {
namespace {

using Breakers = std::vector<std::vector<int>>; // ascending

// Those that begin with `token`.
std::span<const std::vector<int>> beginning_with(
    int token,
    const Breakers& breakers) {
  auto first = std::lower_bound(
      breakers.begin(), breakers.end(), token, [](auto& sequence, int t) {
        return sequence.empty() || sequence[0] < t;
      });
  auto last = std::find_if(first, breakers.end(), [&](auto& sequence) {
    return sequence[0] != token;
  });
  return {first, last};
}

// Tokens behind the last breaker of the text.
int reach(std::span<const int> text, const Breakers& breakers) {
  for (auto rest = text; !rest.empty(); rest = rest.first(rest.size() - 1)) {
    auto from = text.subspan(rest.size() - 1);
    std::size_t longest = 0;
    for (const auto& sequence : beginning_with(from[0], breakers))
      if (sequence.size() <= from.size() &&
          std::equal(sequence.begin(), sequence.end(), from.begin()))
        longest = std::max(longest, sequence.size());
    if (longest > 0) return static_cast<int>(from.size() - longest);
  }
  return static_cast<int>(text.size());
}

// result[k]: how many tokens up to the one k before the last equal the last
// ones of the text (the Z-function of the text read backwards).
std::vector<int> repetitions(std::span<const int> text) {
  auto size = static_cast<int>(text.size());
  auto at = [&](int i) { return text[size - 1 - i]; };
  std::vector<int> result(text.size());
  for (int k = 1, left = 0, right = 0; k < size; ++k) {
    int& length = result[k];
    if (k < right) length = std::min(right - k, result[k - left]);
    while (k + length < size && at(length) == at(k + length))
      ++length;
    if (k + length > right) left = k, right = k + length;
  }
  return result;
}

// A float cannot hold more.
double punishment(const SamplingParameters& p, int length) {
  double beyond = length - p.dry_allowed_length;
  return std::min(p.dry_multiplier * std::pow(p.dry_base, beyond), 1e37);
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
  const auto& breakers = p.dry_breaker_tokens;
  int most = reach(text, breakers);
  if (most < p.dry_allowed_length) return;
  std::map<int, int> longest; // of each token that would go on
  auto found = repetitions(text);
  for (std::size_t k = 1; k < found.size(); ++k) {
    int length = std::min(found[k], most);
    if (length < p.dry_allowed_length) continue;
    int& known = longest[text[text.size() - k]];
    known = std::max(known, length);
  }
  for (auto [token, length] : longest) {
    auto begun = beginning_with(token, breakers);
    bool breaks = !begun.empty() && begun[0].size() == 1;
    if (!breaks) row[token] -= static_cast<float>(punishment(p, length));
  }
}

} // namespace mlxlm

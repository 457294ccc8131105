#include "cache/footprint.h"

#include <algorithm>

#include "cache/layout.h"
#include "cache/sequence.h"

namespace mlxlm {

Footprint::Footprint(
    const std::vector<CacheSpec>& specs,
    const FootprintOptions& options)
    : options_(options) {
  cache::Layout layout(specs);
  for (auto& group : layout.groups) {
    auto row = group.geometry.bytes_per_token(options.dtype) * group.layers;
    groups_.push_back({row * options.page_tokens, group.geometry.window});
  }
  state_bytes_ = layout.state_bytes();
}

std::size_t Footprint::bytes_per_token() const {
  std::size_t total = 0;
  for (auto& group : groups_)
    if (group.window == 0) total += group.bytes / options_.page_tokens;
  return total;
}

std::size_t Footprint::bytes_for(int tokens) const {
  auto pages_of = [&](std::size_t n) {
    return (n + options_.page_tokens - 1) / options_.page_tokens;
  };
  auto all = pages_of(std::max(tokens, 0));
  // A state at every page boundary, the latest few.
  auto kept = std::min<std::size_t>(
      cache::most_checkpoints, tokens / options_.page_tokens + 1);
  std::size_t total = state_bytes_ * (1 + kept);
  for (auto& group : groups_) {
    // A window slides when a pass is over, keeps a page more, and begins
    // anywhere in its first.
    auto seen = pages_of(std::size_t(group.window) + options_.step_tokens) + 2;
    total += group.bytes * (group.window == 0 ? all : std::min(all, seen));
  }
  return total;
}

int Footprint::tokens_within(std::size_t bytes, int most) const {
  int fits = 0, beyond = most + 1;
  while (beyond - fits > 1) {
    int middle = fits + (beyond - fits) / 2;
    (bytes_for(middle) <= bytes ? fits : beyond) = middle;
  }
  return fits;
}

} // namespace mlxlm

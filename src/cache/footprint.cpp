#include "cache/footprint.h"

#include <algorithm>

#include "cache/layout.h"
#include "cache/paged_store.h"
#include "cache/sequence.h"

namespace mlxlm {

Footprint::Footprint(
    const std::vector<CacheSpec>& specs,
    const FootprintOptions& options)
    : options_(options) {
  cache::Layout layout(specs);
  layout.limit(options.max_tokens, options.keep_tokens);
  cache::StoreOptions store{
      options.dtype,
      options.page_tokens,
      true,
      options.storage,
      layout.with_keys};
  for (auto& group : layout.groups) {
    auto& g = group.geometry;
    groups_.push_back({store.page_bytes(group), g.window, g.keep});
    if (store.packs(g))
      groups_.back().packed = cache::packed_page_bytes(group, store);
  }
  state_bytes_ = layout.state_bytes();
}

std::size_t Footprint::bytes_per_token() const {
  std::size_t total = 0;
  for (auto& group : groups_) {
    auto page = group.packed ? group.packed : group.bytes;
    if (group.window == 0) total += page / options_.page_tokens;
  }
  return total;
}

// Of so many pages of a sequence on its way; while it is packed it is there
// twice.
std::size_t Footprint::at_most(const Pages& group, std::size_t pages) const {
  auto pages_of = [&](int n) {
    return std::size_t(n + options_.page_tokens - 1) / options_.page_tokens;
  };
  auto before = pages_of(options_.storage.start);
  if (!group.packed || pages <= before) return pages * group.bytes;
  auto plain = std::min(pages_of(options_.storage.plain_tokens), pages);
  auto after = plain * group.bytes + (pages - plain) * group.packed;
  return std::max(after, before * (group.bytes + group.packed));
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
    seen += pages_of(std::size_t(group.keep));
    total += at_most(group, group.window == 0 ? all : std::min(all, seen));
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

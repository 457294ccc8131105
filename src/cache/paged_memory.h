// Memory over paged pools: the ledger of all groups, sequences and layer views.
#pragma once

#include "cache/layout.h"
#include "cache/memory.h"
#include "cache/pages.h"
#include "cache/store.h"

namespace mlxlm::cache {

// What memory and its sequences share; sequences may outlive the Memory.
struct Shared {
  Shared(const std::vector<CacheSpec>& specs, const MemoryOptions& options);

  Layout layout;
  MemoryOptions options;
  std::vector<PageSource> pools; // one a group
  std::vector<std::unique_ptr<KvStore>> stores; // one a group
  std::size_t state_bytes = 0; // of all sequences

  std::size_t bytes() const;
  std::size_t bytes_of_states() const; // one copy of a sequence's states
  // Pages of a sequence of `tokens`, all groups.
  std::size_t bytes_of_pages(int tokens) const;
};

std::unique_ptr<Memory> make_paged_memory(
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options);

} // namespace mlxlm::cache

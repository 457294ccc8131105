// Who has a memory's pages.
#pragma once

#include <span>

#include "cache/parts.h"

namespace mlxlm {

struct PageCounts {
  int kept = 0; // that only parts kept for others have
  int in_use = 0; // all others, also those that only work under way still has
};

// kept: all pages that are kept of this memory's sequences.
PageCounts count_pages(Memory& memory, std::span<const KeptPtr> kept);

} // namespace mlxlm

// Rows of a layer as plain numbers; see CacheRows.
#pragma once

#include "cache/layout.h"
#include "cache/memory.h"

namespace mlxlm::cache {

// Checks sizes against the geometry; throws Error(internal).
void check_rows(const CacheRows& rows, const Geometry& geometry);
// Codes decoded; floats as they are.
CacheRows decoded(const CacheRows& rows, const Geometry& geometry);

} // namespace mlxlm::cache

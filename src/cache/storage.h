// How keys and values are stored, in words: what people write for it.
#pragma once

#include <string_view>

#include "cache/memory.h"

namespace mlxlm {

// A scheme's storage:
//   affine8            8 bits, also 6, 5, 4, 3, 2; `group` values share a scale
//   turbo4v3           TurboQuant, keys of 4 bits and values of 3 (2 to 4);
//   keys
//                      also 8, affine, or 0, plain
//   turbo3             the same for both; also turboQuant(3,3)
//   turbo4v3q          one of the keys' bits is a sketch of the residual
//   turbo4+            with plain first tokens and the first and last two
//                      layers in 8 bits
//   quality, balanced, memory
//                      turbo0v4+, turbo8v3+, turbo8v2+
// Throws Error(request) for anything else.
KvStorage kv_storage(std::string_view scheme, int group = 64);

} // namespace mlxlm

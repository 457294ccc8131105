// What a model's layer sees of a paged memory.
#pragma once

#include <memory>

#include "cache/paged_memory.h"

namespace mlxlm::cache {

// `shared` outlives it.
std::unique_ptr<LayerCache> make_layer(Shared& shared, const Layer& layer);

} // namespace mlxlm::cache

// Log-likelihood of known tokens, for perplexity.
#pragma once

#include <functional>
#include <span>

#include "cache/memory.h"
#include "mlxlm/model.h"
#include "nn/model.h"

namespace mlxlm {

// On the engine's thread. See ModelContainer::score.
Score score_tokens(
    const Model& model,
    Memory& memory,
    std::span<const int> ids,
    int context,
    const std::function<void(int done, int total)>& progress);

} // namespace mlxlm

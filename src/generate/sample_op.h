// Sampling as a step of the graph: the next pass can be built on its token
// before it has been drawn.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <vector>

#include "generate/sampling/sampler.h"

namespace mlxlm {

namespace mx = mlx::core;

using SamplerPtr = std::shared_ptr<Sampler>;
using SampledRows = std::shared_ptr<std::vector<Sampled>>;

// One sampler a row of logits [S, vocab] f32. Gives ids [S] int32, 0 where
// nothing could be drawn, and fills `out` (resized to S) when that array is
// evaluated. Runs on the CPU, rows in parallel; samplers are used by one pass
// after another.
mx::array sample(
    const mx::array& logits,
    std::vector<SamplerPtr> samplers,
    const SampledRows& out);

} // namespace mlxlm

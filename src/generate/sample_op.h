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

struct SampleJob {
  std::vector<SamplerPtr> samplers; // one a row
  SampledRows out; // a place for every row
};

// Draws from every row of logits [S, vocab] f32. Gives ids [S] int32, 0 where
// nothing could be drawn, and fills `job->out` when that array is evaluated;
// the job is read then. Runs on the CPU, rows in parallel; samplers are used by
// one pass after another.
mx::array sample(const mx::array& logits, std::shared_ptr<SampleJob> job);

} // namespace mlxlm

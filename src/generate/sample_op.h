// Sampling as a step of the graph: the next pass can be built on its token
// before it has been drawn.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <vector>

#include "generate/drafting/drafter.h"
#include "generate/sampling/sampler.h"

namespace mlxlm {

namespace mx = mlx::core;

using SamplerPtr = std::shared_ptr<Sampler>;

// One sequence's rows of logits, and what to draw from them.
struct Draw {
  enum class Kind {
    next, // a token; with a draft, those of it that are taken and one more
    guess, // a token for a draft, and what it was drawn from
  };
  SamplerPtr sampler;
  Draft draft = {}; // one row more for each of its tokens
  int skip = 0; // rows before the first that counts
  Kind kind = Kind::next;
  int vocab = 0; // that the sampler knows; 0: the rows' own

  int rows() const {
    return skip + 1 + draft.count();
  }
};
struct DrawnTokens {
  std::vector<Sampled> tokens; // at least one
  Probabilities from; // of Kind::guess
};
using DrawnRows = std::shared_ptr<std::vector<DrawnTokens>>;

struct SampleJob {
  std::vector<Draw> draws; // their rows follow one another
  DrawnRows out; // a place for every draw
};

// Draws from logits [S, vocab] f32. Gives ids [S] int32, of each draw its last
// token in its last row (0 where nothing could be drawn), and fills `job->out`
// when that array is evaluated; the job is read then. Runs on the CPU, draws in
// parallel; samplers are used by one pass after another.
mx::array sample(const mx::array& logits, std::shared_ptr<SampleJob> job);

} // namespace mlxlm

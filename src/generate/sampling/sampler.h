// One sequence's sampler: processors, filters, temperature, draw, with the
// history and position that they need. Pure host code on one row of logits; a
// copy goes on as the original would.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/constraint.h"
#include "generate/sampling/distribution.h"
#include "mlxlm/sampling.h"

namespace mlxlm {

struct Sampled {
  int token = -1; // -1: nothing can be drawn (NaN, +inf, or all -inf)
  float logprob = 0; // log-softmax of the processed logits; 0 unless asked for
};

struct TokenProbability {
  int token;
  double probability;
};

class Sampler {
 public:
  // `prompt`: the tokens read before the first draw. Parameters are valid.
  Sampler(
      SamplingParameters parameters,
      std::uint64_t seed,
      std::span<const int> prompt,
      bool logprobs = false,
      std::uint32_t sample = 0);

  // From now on only tokens that `constraint` allows are drawn.
  void constrain(Constraint constraint) {
    constraint_ = std::move(constraint);
  }
  // Why the constraint could not go on; `next` draws nothing any more.
  const std::string& failure() const {
    return failure_;
  }

  // Draws from logits [vocab] and takes the token into the history.
  Sampled next(std::span<const float> row);
  // What `next` draws from, without drawing; most likely or not, every token
  // that may come. Empty when nothing can be drawn.
  std::vector<TokenProbability> probabilities(std::span<const float> row);
  // The row after logit_bias and the penalties.
  std::vector<float> processed(std::span<const float> row);

  // Whether `next` is the largest logit and nothing else.
  bool plain_argmax() const {
    return parameters_.greedy() && !processes_ && !logprobs_ && !constraint_;
  }

 private:
  std::span<const float> process(std::span<const float> row);
  void allow(); // masks row_
  void follow(int token); // tells the constraint
  void narrow(); // runs the filters
  double weigh();
  int draw();
  void remember(int token);

  SamplingParameters parameters_;
  std::uint64_t seed_;
  std::uint32_t sample_, position_;
  bool logprobs_, processes_;
  std::size_t window_; // history that the penalties may look at
  std::vector<int> history_;
  std::optional<Constraint> constraint_;
  std::string failure_;
  // Scratch.
  std::vector<float> row_, weights_;
  std::vector<double> block_sums_;
  Distribution distribution_;
};

} // namespace mlxlm

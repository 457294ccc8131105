// One sequence's sampler: processors, filters, temperature, draw, with the
// history and position that they need. Pure host code on one row of logits; a
// copy goes on as the original would, and is cheap.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/constraint.h"
#include "generate/sampling/distribution.h"
#include "generate/sampling/stages.h"
#include "mlxlm/sampling.h"

namespace mlxlm {

struct Sampled {
  int token = -1; // -1: nothing can be drawn (NaN, +inf, or all -inf)
  float logprob = 0; // log-softmax of the processed logits; 0 unless asked for
  std::vector<TokenLogprob> top = {}; // the most likely, if asked for
};

struct TokenProbability {
  int token;
  double probability;
};
// What a token is drawn from: tokens ascending, probabilities that sum to one.
using Probabilities = std::vector<TokenProbability>;

// A token drawn ahead for another model's sampler, and what it was drawn from.
struct Guess {
  int token = -1;
  Probabilities from;
};

// Only of use within one call: a copy has its own, empty.
class SamplerScratch {
 protected:
  std::vector<float> row_, weights_;
  std::vector<double> block_sums_;
  Distribution distribution_;
  double pending_ = 1; // 1 / temperature, where it is still to be applied

  SamplerScratch() = default;
  SamplerScratch(const SamplerScratch&) {}
  SamplerScratch& operator=(const SamplerScratch&) {
    return *this;
  }
};

class Sampler : private SamplerScratch {
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
  // Tokens that the constraint leaves no choice of: what `next` draws next.
  std::vector<int> forced();
  // Why the constraint could not go on; `next` draws nothing any more.
  const std::string& failure() const {
    return failure_;
  }

  // Draws from logits [vocab] and takes the token into the history.
  Sampled next(std::span<const float> row);
  // What `next` draws from, without drawing; most likely or not, every token
  // that may come. Empty when nothing can be drawn.
  Probabilities probabilities(std::span<const float> row);
  // Draws as `next` does, but from random numbers of its own.
  Guess guess(std::span<const float> row);
  // Takes the guess with the probability min(1, p / q), else draws from what p
  // has more of than q (Leviathan et al. 2023; Chen et al. 2023): the result is
  // distributed as that of `next`, whatever the guess was drawn from.
  Sampled accept(std::span<const float> row, const Guess& guess);
  // The row after logit_bias and the penalties.
  std::vector<float> processed(std::span<const float> row);

  // Whether `next` is the largest logit and nothing else.
  bool plain_argmax() const {
    return parameters_->greedy() && processors_.empty() && !logprobs_ &&
        !constraint_;
  }

 private:
  void order_stages();
  void run_processors(std::span<const float> row, const StageContext& about);
  StageContext context() const;
  std::span<const float> process(std::span<const float> row);
  void allow(); // masks row_
  void follow(int token); // tells the constraint
  void narrow(); // runs the filters
  double weigh();
  int draw();
  void learn(double probability); // of the token drawn
  void remember(int token);
  Sampled finish(int token, std::span<const float> logits);

  std::shared_ptr<const SamplingParameters> parameters_; // copies share it
  std::uint64_t seed_;
  std::uint32_t sample_, first_, position_;
  bool logprobs_;
  // Those that do something, in order; a null filter is the temperature.
  std::vector<const Processor*> processors_;
  std::vector<const Filter*> filters_;
  std::size_t window_; // history that the penalties may look at
  std::vector<int> history_;
  std::optional<Constraint> constraint_;
  std::string failure_;
  double mu_ = 0; // of mirostat
};

} // namespace mlxlm

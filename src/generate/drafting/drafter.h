// Tokens drafted ahead of the model: what guesses them. The model then reads
// all guesses in one pass and keeps those it would have drawn (verify.h), so a
// drafter changes how fast an answer comes, never what it says.
//
// To add one: a Drafter in a file of its own, a value of DraftKind
// (mlxlm/generate.h), and its line where ModelRunner chooses.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <span>
#include <vector>

#include "cache/memory.h"
#include "generate/sampling/sampler.h"

namespace mlxlm {

struct Draft {
  std::vector<int> tokens;
  // What each was drawn from. Empty: they were not drawn, or are to be taken
  // only where the model draws the same.
  std::vector<Probabilities> from;

  int count() const {
    return static_cast<int>(tokens.size());
  }
  void cut(int count); // to at most so many
};

// What a drafter keeps of one sequence.
class DraftState {
 public:
  virtual ~DraftState() = default;
};

struct DraftTask {
  DraftState* state; // from open()
  std::span<const int> known; // prompt and answer so far
  int most; // guesses wanted, >= 1
  // The sequence's own, to be copied: history and position are those of the
  // first guess.
  const Sampler* sampler;
  SequenceMemory* memory; // the model's, which has read all but the last token
  bool chances; // fill in Draft::from
  Draft draft = {}; // the answer: `most` guesses or fewer
};

// Only for the engine's thread.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual std::unique_ptr<DraftState> open() = 0;
  // The sequence's prompt has been read as far as this.
  virtual void read(DraftState&, std::span<const int>) {}
  // Whether it is shown what the model makes of what it reads: a model with
  // hidden states to show, then.
  virtual bool watches() const {
    return false;
  }
  // The model has read `known`, all of it kept; `hidden` [1, count, width] are
  // its last hidden states at the last `count` tokens of it. Shown again what
  // is read again.
  virtual void watch(
      DraftState&,
      std::span<const int>,
      const mlx::core::array&) {}
  // Guesses for several sequences at once.
  virtual void propose(std::span<DraftTask> tasks) = 0;
  // What a guess costs, measured in passes of the model.
  virtual double cost() const = 0;
  // As Runner's.
  virtual void changed() {}
  virtual void rest() {}
};

} // namespace mlxlm

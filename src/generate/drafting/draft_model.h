// A smaller model of the same vocabulary guesses, token by token, for all
// sequences of the pass together; its passes are recorded as the model's are.
#pragma once

#include "generate/drafting/drafter.h"
#include "generate/forward.h"

namespace mlxlm {

struct DraftModelOptions {
  int vocab = 0; // of the model it drafts for
  int step_tokens = 512; // most that it reads at once
  double cost = 0.25; // see Drafter::cost
};

class DraftModel final : public Drafter {
 public:
  DraftModel(
      std::shared_ptr<const Model> model,
      std::shared_ptr<Memory> memory,
      const DraftModelOptions& options);

  std::unique_ptr<DraftState> open() override;
  void read(DraftState& state, std::span<const int> known) override;
  void propose(std::span<DraftTask> tasks) override;
  double cost() const override {
    return options_.cost;
  }
  void changed() override {
    forward_.forget();
  }
  void rest() override;
  const Recordings& recordings() const {
    return forward_.recordings();
  }

 private:
  class State;

  bool knows(std::span<const int> tokens) const;
  bool catch_up(State& state, std::span<const int> known, int leave);

  Forward forward_;
  DraftModelOptions options_;
};

} // namespace mlxlm

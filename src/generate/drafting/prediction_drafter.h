// A model drafts for itself with the module it was trained with to say the
// token after the next one (nn/prediction.h). At position p that reads the
// model's hidden state at p and token p + 1; for the guesses after the first,
// its own hidden states.
#pragma once

#include "generate/drafting/drafter.h"
#include "generate/forward.h"

namespace mlxlm {

struct PredictionDrafterOptions {
  int step_tokens = 512; // most that it reads at once
  double cost = 0.1; // see Drafter::cost
};

class PredictionDrafter final : public Drafter {
 public:
  // `module`: Model::prediction(); `memory`: its own.
  PredictionDrafter(
      std::shared_ptr<const Model> module,
      std::shared_ptr<Memory> memory,
      const PredictionDrafterOptions& options);

  std::unique_ptr<DraftState> open() override;
  bool watches() const override {
    return true;
  }
  void watch(
      DraftState& state,
      std::span<const int> known,
      const mx::array& hidden) override;
  void propose(std::span<DraftTask> tasks) override;
  double cost() const override {
    return options_.cost;
  }
  void rest() override;

 private:
  class State;

  void read_rows(State& state, int count);

  Forward forward_;
  PredictionDrafterOptions options_;
};

} // namespace mlxlm

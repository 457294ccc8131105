// A small model that was trained beside the model to guess for it (Gemma 4's
// assistants): it reads the model's last hidden state and the token drawn from
// it, then its own, and attends to the model's keys and values. It has no
// memory; all its guesses are made at the place of the first.
#pragma once

#include "generate/drafting/drafter.h"
#include "generate/forward.h"

namespace mlxlm {

struct AssistantOptions {
  double cost = 0.1; // see Drafter::cost
};

class AssistantDrafter final : public Drafter {
 public:
  // `memory`: the model's. Throws Error(request) where the model has not the
  // keys and values that the assistant wants to see.
  AssistantDrafter(
      std::shared_ptr<const Model> assistant,
      std::shared_ptr<const Model> model,
      std::shared_ptr<Memory> memory,
      const AssistantOptions& options);

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

 private:
  class State;

  Forward forward_;
  AssistantOptions options_;
};

} // namespace mlxlm

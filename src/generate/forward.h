// A model with its memory, one pass after another: built, recorded while it is
// built, or done again. Belongs to the engine's thread.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"
#include "generate/recordings.h"
#include "generate/sample_op.h"
#include "generate/token_op.h"
#include "nn/model.h"
#include "weights/adapter_bank.h"

namespace mlxlm {

// A pass under way.
class Running {
 public:
  // Ids that are being drawn [rows], or an empty row of logits.
  const mx::array& result() const {
    return *result_;
  }
  // Of the rows PassPlan::keep, [1, keep.size(), hidden].
  const mx::array& hidden() const {
    return *hidden_;
  }
  // Of each draw, once finish() has returned.
  std::vector<DrawnTokens>& drawn() {
    return *drawn_;
  }
  // Waits; throws what a kernel threw.
  void finish();

 private:
  friend class Forward;
  std::optional<mx::array> result_, hidden_;
  std::optional<Replay> replay_; // how it runs, where it is a recorded one
  DrawnRows drawn_;
  bool borrows_ = false; // `hidden_` is of a recording, and changes
};

struct PassPlan {
  std::vector<Segment> segments;
  TokenJob tokens = {};
  std::optional<mx::array> drawn = {}; // ids that tokens.rows are rows of
  std::vector<int> rows = {}; // that are drawn from, ascending
  std::vector<Draw> draws = {};
  // For a model that predicts further tokens: Input::hidden.
  std::optional<mx::array> hidden = {};
  // Of each segment, 0 for none; empty: no segment has one.
  std::vector<int> adapters = {};
  // Rows whose last hidden states are wanted, ascending, `rows` among them.
  std::vector<int> keep = {};
};

class Forward {
 public:
  Forward(std::shared_ptr<const Model> model, std::shared_ptr<Memory> memory)
      : model_(std::move(model)), memory_(std::move(memory)) {}

  void use_adapters(std::shared_ptr<AdapterBank> adapters) {
    adapters_ = std::move(adapters);
  }
  // The sequences have begun what their segments say.
  Running start(PassPlan plan);
  // After anything that may have changed the model.
  void forget() {
    recordings_.forget();
    if (adapters_) adapters_->sweep();
  }

  const Model& model() const {
    return *model_;
  }
  Memory& memory() const {
    return *memory_;
  }
  const std::shared_ptr<Memory>& shared_memory() const {
    return memory_;
  }
  const Recordings& recordings() const {
    return recordings_;
  }

 private:
  std::shared_ptr<const Model> model_;
  std::shared_ptr<Memory> memory_;
  std::shared_ptr<AdapterBank> adapters_; // null: none
  Recordings recordings_;
};

} // namespace mlxlm

// For tests of drafters: answers of a tiny model, drafted or not.
#pragma once

#include <gtest/gtest.h>

#include "generate/drafting/draft_model.h"
#include "generate/drafting/prediction_drafter.h"
#include "generate/model_runner.h"
#include "models/checkpoint_testing.h"
#include "models/families.h"
#include "models/testing.h"
#include "weights/loader.h"

namespace mlxlm::testing {

// Where the family has it, with what predicts further tokens.
inline std::shared_ptr<const Model> random_model(
    const models::Family& family,
    std::uint64_t seed) {
  RandomWeights weights{.seed = seed};
  if (family.prediction) weights.present = with_prediction;
  auto loader = Loader::random(std::move(weights), {});
  return family.build(config_of(family.model_type), loader->root());
}

// Windows are shorter than what is drafted, and pages shorter still.
inline const MemoryOptions plain_memory{.dtype = mx::float32, .page_tokens = 2};

// Drives a runner as the engine does where tokens are drafted: a pass is read
// before the next is started.
class Answers {
 public:
  Answers(
      const models::Family& family,
      bool draft_model,
      std::uint64_t draft_seed = 8,
      const MemoryOptions& memory = plain_memory)
      : Answers(random_model(family, 7), memory) {
    if (!draft_model) return;
    auto small = random_model(family, draft_seed);
    runner_.use_draft_model(std::make_unique<DraftModel>(
        small,
        make_memory(small->caches(), memory),
        DraftModelOptions{.vocab = model_->vocab(), .cost = 0}));
  }

  explicit Answers(
      std::shared_ptr<const Model> model,
      const MemoryOptions& memory = plain_memory)
      : model_(std::move(model)),
        memory_(make_memory(model_->caches(), memory)),
        runner_(model_, memory_) {
    const auto* module = model_->prediction();
    if (!module) return;
    runner_.use_prediction(std::make_unique<PredictionDrafter>(
        std::shared_ptr<const Model>(model_, module),
        make_memory(module->caches(), memory),
        PredictionDrafterOptions{.step_tokens = 3, .cost = 0}));
  }

  // Makes a drafter for the model and its memory: DraftKind::model.
  template <typename Make>
  void guessed_by(const Make& make) {
    runner_.use_draft_model(make(model_, memory_));
  }

  void join(
      std::uint64_t id,
      std::vector<int> prompt,
      DraftParameters draft,
      const SamplingParameters& sampling = {.temperature = 0},
      std::shared_ptr<const Constraint> constraint = nullptr) {
    auto request = std::make_shared<Request>();
    // Without guesses none is forced either: token by token.
    request->forced = draft.kind != DraftKind::none;
    request->constraint = std::move(constraint);
    request->prompt = std::move(prompt);
    request->sampling = sampling;
    request->seed = id;
    request->max_tokens = 24;
    request->draft = draft;
    request->logprobs = true;
    cached = runner_.open(id, request);
    int left = static_cast<int>(request->prompt.size()) - cached;
    // In two chunks, the second of which draws.
    if (left > 1) step({{id, left / 2, false, false}});
    joining_.push_back({id, left - left / 2, false, true});
  }
  // Until all have 24 tokens.
  void finish() {
    while (!running_.empty() || !joining_.empty()) {
      auto pieces = std::move(joining_);
      joining_.clear();
      for (auto id : running_)
        pieces.push_back({id, 1, true, true});
      for (const auto& piece : pieces)
        if (!piece.decode) running_.push_back(piece.id);
      step(pieces);
      std::erase_if(running_, [&](std::uint64_t id) {
        if (tokens[id].size() < 24) return false;
        runner_.close(id);
        return true;
      });
    }
  }

  std::map<std::uint64_t, std::vector<int>> tokens;
  int guessed = 0, taken = 0, passes = 0;
  int cached = 0; // of the last that joined

 private:
  void step(const std::vector<Piece>& pieces) {
    ++passes;
    runner_.start(pieces);
    for (const auto& drawn : runner_.finish()) {
      ASSERT_EQ(drawn.error, "");
      tokens[drawn.id].push_back(drawn.token);
      guessed += drawn.guessed;
      taken += drawn.taken;
    }
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Memory> memory_;
  ModelRunner runner_;
  std::vector<std::uint64_t> running_;
  std::vector<Piece> joining_;
};

inline constexpr DraftParameters none{.kind = DraftKind::none};
inline constexpr DraftParameters lookup{
    .kind = DraftKind::prompt_lookup,
    .num_tokens = 6};
inline constexpr DraftParameters by_itself{
    .kind = DraftKind::mtp,
    .num_tokens = 4};
inline constexpr DraftParameters by_model{
    .kind = DraftKind::model,
    .num_tokens = 4};

inline const std::vector<int> prompts[] = {
    {3, 14, 15, 9, 26, 3, 14, 15, 9, 26, 3, 14},
    {5, 35, 8, 5, 35, 8, 5},
    {1, 2, 3, 4, 5, 6, 7, 8, 9}};

} // namespace mlxlm::testing

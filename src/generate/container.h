// ModelContainer over an engine: what load() gives.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "cache/footprint.h"
#include "generate/adapters.h"
#include "generate/codec.h"
#include "generate/constraint_maker.h"
#include "generate/drafting/load_draft.h"
#include "generate/engine.h"
#include "generate/model_runner.h"
#include "generate/prompt_scores.h"
#include "generate/sampling_tokens.h"
#include "mlxlm/model.h"
#include "models/load.h"

namespace mlxlm {

// What lives on the engine's thread.
struct LoadedState {
  LoadedModel loaded;
  std::unique_ptr<Memory> memory;
  std::size_t weight_bytes;
  Footprint footprint;
  std::size_t sequence_bytes; // what all of them together may take
  MemoryOptions memory_options;
  std::size_t workspace = 0; // of passes; nothing off the CPU
  std::shared_ptr<LoadedDraft> draft = {}; // null: none
  std::string draft_obstacle = {};
  std::shared_ptr<LoadedPrediction> prediction = {}; // null: none
  std::shared_ptr<AdapterBank> adapters = {};
};

class Container final : public ModelContainer {
 public:
  Container(
      std::string path,
      const LoadOptions& options,
      const LoadProgressFunction& progress);
  ~Container() override;

  const std::string& path() const override {
    return path_;
  }
  const std::string& model_type() const override {
    return state_->loaded.model_type;
  }
  int context_length() const override {
    return context_;
  }
  Capabilities capabilities() const override;
  const TextCodec& codec() const override {
    return *codec_;
  }
  MemoryFigures memory() override;
  double load_seconds() const override {
    return load_seconds_;
  }

  std::string draft_obstacle() const override {
    return state_->draft_obstacle;
  }

  GenerationPtr generate(
      std::vector<int> prompt,
      const GenerateParameters& parameters,
      PromptCachePtr cache) override;
  std::vector<GenerationPtr> generate_several(
      std::vector<int> prompt,
      const GenerateParameters& parameters,
      int count) override;
  PromptCachePtr make_prompt_cache() override;
  PromptCachePtr load_prompt_cache(const std::string& path) override;
  void save_prompt_cache(
      const PromptCachePtr& cache,
      const std::string& path,
      PromptCacheLayout layout) override;
  Score score(
      std::span<const int> ids,
      const std::function<void(int done, int total)>& progress) override;
  BenchTrial bench(const BenchShape& shape) override;
  MeasuredBudget measure(int tokens) override;
  void perform(const std::function<void()>& work) override;

  // Of generate/adapters.h.
  LoadedAdapterPtr load_adapter(const std::string& path);
  GenerationPtr generate_with(
      const LoadedAdapterPtr& adapter,
      std::vector<int> prompt,
      const GenerateParameters& parameters);
  // Of generate/prompt_scores.h.
  void score_prompt(PromptScoring scoring);

 private:
  std::unique_ptr<Runner> make_runner(
      const LoadOptions& options,
      const LoadProgressFunction& progress);
  std::string fingerprint() const;
  std::shared_ptr<PrefixTier> prefix_tier(const LoadOptions& options) const;
  SequenceBudget reserve_weights(
      const LoadOptions& options,
      std::size_t budget);
  std::unique_ptr<Drafter> make_drafter(
      const LoadOptions& options,
      ModelOptions model_options,
      const FootprintOptions& kv);
  std::unique_ptr<Drafter> make_prediction(const FootprintOptions& kv);
  DraftKind draft_kind(const GenerateParameters& parameters) const;
  void pretend(const BenchShape& shape);
  void check_prompt(const std::vector<int>& prompt) const;
  int answer_room(int prompt, int asked) const;
  Request request(std::vector<int> prompt, const GenerateParameters& parameters)
      const;
  std::vector<GenerationPtr> submit(
      std::vector<Request> requests,
      const GenerateParameters& parameters);

  std::string path_;
  std::shared_ptr<const Codec> codec_;
  std::unique_ptr<WiredHold> weights_; // ends after they are gone
  std::shared_ptr<LoadedState> state_; // dies on the engine's thread
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<const std::set<int>> stop_tokens_;
  std::unique_ptr<SamplingTokens> sampling_tokens_;
  std::vector<int> xtc_special_;
  std::unique_ptr<ConstraintMaker> constraints_;
  int context_ = 0;
  int step_size_ = 0; // tokens of one pass
  bool mtp_ = false;
  // Of bench() at a depth: what the next trial goes back to.
  struct {
    int depth = 0;
    std::vector<PromptCachePtr> caches = {};
  } pretended_;
  double load_seconds_ = 0;
};

// The container behind a model of this library; any other is a mistake.
Container& container_of(ModelContainer& model);

} // namespace mlxlm

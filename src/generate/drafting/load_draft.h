// A draft model beside the model it is for, or a module of its own: whether
// there is memory for it, whether the vocabularies agree, and the Drafter.
#pragma once

#include <memory>
#include <string>

#include "cache/footprint.h"
#include "generate/drafting/assistant_drafter.h"
#include "generate/drafting/draft_model.h"
#include "generate/drafting/prediction_drafter.h"
#include "mlxlm/model.h"
#include "models/load.h"
#include "text/tokenizer.h"

namespace mlxlm {

struct LoadedDraft {
  LoadedModel loaded;
  std::unique_ptr<Memory> memory;
  Footprint footprint;
  std::size_t weight_bytes;
};

// Why there is no room for the weights of `path` in what is free; empty: there
// is. Decided from file headers, before anything is loaded. Throws
// Error(resource) with the same words where the policy says so.
std::string obstacle_to_draft(
    const std::string& path,
    const DraftPolicy& policy,
    std::size_t free_bytes);

std::shared_ptr<LoadedDraft> load_draft(
    const std::string& path,
    const ModelOptions& options,
    const FootprintOptions& kv,
    std::size_t max_bytes);

// `model_bytes`: weights of the model that it drafts for.
std::unique_ptr<Drafter> make_draft_model(
    std::shared_ptr<LoadedDraft> draft,
    const Model& model,
    std::size_t model_bytes,
    int step_tokens);

// An assistant: LoadedModel::assistant. `model` and `memory`: what it is for.
std::unique_ptr<Drafter> make_assistant(
    std::shared_ptr<LoadedDraft> draft,
    std::shared_ptr<const Model> model,
    std::shared_ptr<Memory> memory,
    std::size_t model_bytes);

// The same for what predicts further tokens in a loaded model.
struct LoadedPrediction {
  std::unique_ptr<Memory> memory;
  Footprint footprint;
};
std::shared_ptr<LoadedPrediction> open_prediction(
    const Model& model,
    const FootprintOptions& kv,
    std::size_t max_bytes);
// `parameters`: of model and module together.
std::unique_ptr<Drafter> make_prediction_drafter(
    std::shared_ptr<const Model> module,
    std::shared_ptr<Memory> memory,
    const ParameterTable& parameters,
    int step_tokens);

// Throws Error(request) naming the first token that differs among those both
// have.
void check_vocabularies(const Tokenizer& model, const Tokenizer& draft);

} // namespace mlxlm

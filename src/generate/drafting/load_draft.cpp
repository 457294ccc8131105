#include "generate/drafting/load_draft.h"

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

std::string obstacle_to_draft(
    const std::string& path,
    const DraftPolicy& policy,
    std::size_t free_bytes) {
  if (policy.action == DraftPolicy::Action::allow) return {};
  auto needed = inspect(path).weight_bytes + policy.additional_bytes;
  auto limit = policy.limit_bytes ? policy.limit_bytes : free_bytes;
  if (needed <= limit) return {};
  auto reason = fmt::format(
      "expected a draft model within {}, found one that needs {}",
      human_bytes(limit),
      human_bytes(needed));
  if (policy.action == DraftPolicy::Action::fail)
    fail(ErrorKind::resource, path, "{}", reason);
  return path + ": " + reason;
}

std::shared_ptr<LoadedDraft> load_draft(
    const std::string& path,
    const ModelOptions& options,
    const FootprintOptions& kv,
    std::size_t max_bytes) {
  auto loaded = load_model(path, options);
  auto specs = loaded.model->caches();
  if (loaded.assistant) specs.clear(); // the model's
  auto memory = make_memory(specs, {.dtype = kv.dtype, .max_bytes = max_bytes});
  auto bytes = loaded.parameters->bytes();
  return std::make_shared<LoadedDraft>(LoadedDraft{
      std::move(loaded), std::move(memory), Footprint(specs, kv), bytes});
}

namespace {

double share(std::size_t part, std::size_t whole) {
  return double(part) / double(std::max<std::size_t>(whole, 1));
}

} // namespace

std::unique_ptr<Drafter> make_draft_model(
    std::shared_ptr<LoadedDraft> draft,
    const Model& model,
    std::size_t model_bytes,
    int step_tokens) {
  double ratio = share(draft->weight_bytes, model_bytes);
  return std::make_unique<DraftModel>(
      std::shared_ptr<const Model>(draft, draft->loaded.model.get()),
      std::shared_ptr<Memory>(draft, draft->memory.get()),
      DraftModelOptions{
          .vocab = model.vocab(), .step_tokens = step_tokens, .cost = ratio});
}

std::unique_ptr<Drafter> make_assistant(
    std::shared_ptr<LoadedDraft> draft,
    std::shared_ptr<const Model> model,
    std::shared_ptr<Memory> memory,
    std::size_t model_bytes) {
  return std::make_unique<AssistantDrafter>(
      std::shared_ptr<const Model>(draft, draft->loaded.model.get()),
      std::move(model),
      std::move(memory),
      AssistantOptions{.cost = share(draft->weight_bytes, model_bytes)});
}

std::shared_ptr<LoadedPrediction> open_prediction(
    const Model& model,
    const FootprintOptions& kv,
    std::size_t max_bytes) {
  auto specs = model.prediction()->caches();
  auto memory = make_memory(specs, {.dtype = kv.dtype, .max_bytes = max_bytes});
  return std::make_shared<LoadedPrediction>(
      LoadedPrediction{std::move(memory), Footprint(specs, kv)});
}

std::unique_ptr<Drafter> make_prediction_drafter(
    std::shared_ptr<const Model> module,
    std::shared_ptr<Memory> memory,
    const ParameterTable& parameters,
    int step_tokens) {
  std::size_t own = 0, all = 0;
  for (const auto& [path, handle] : parameters.entries()) {
    const auto* matrix = std::get_if<Linear>(&handle);
    if (!matrix) continue;
    auto bytes = matrix->kernel().bytes();
    all += bytes;
    // The head is read for a guess as it is for a token.
    if (path.starts_with("prediction.") || path == "lm_head") own += bytes;
  }
  double ratio = share(own, all);
  return std::make_unique<PredictionDrafter>(
      std::move(module),
      std::move(memory),
      PredictionDrafterOptions{.step_tokens = step_tokens, .cost = ratio});
}

void check_vocabularies(const Tokenizer& model, const Tokenizer& draft) {
  // llama.cpp's tolerance: sizes are padded differently.
  constexpr int padding = 128;
  int a = model.vocab_size(), b = draft.vocab_size();
  if (std::abs(a - b) > padding)
    fail(
        ErrorKind::request,
        "draft model",
        "expected the model's vocabulary of {} tokens, found {}",
        a,
        b);
  for (int id = 0; id < std::min(a, b); ++id) {
    auto ours = model.token(id), theirs = draft.token(id);
    if (ours == theirs) continue;
    fail(
        ErrorKind::request,
        "draft model",
        "expected the model's vocabulary, \"{}\" as token {}, found \"{}\"",
        printable(ours.value_or(""), 40),
        id,
        printable(theirs.value_or(""), 40));
  }
}

} // namespace mlxlm

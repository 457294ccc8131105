#include "generate/container.h"

#include <mlx/compile.h>
#include <mlx/device.h>
#include <mlx/memory.h>

#include <algorithm>
#include <future>
#include <limits>
#include <random>

#include "cache/storage.h"
#include "core/check.h"
#include "generate/cache_file.h"
#include "generate/machine.h"
#include "generate/prompt_cache.h"
#include "generate/score.h"
#include "generate/stream.h"
#include "generate/workspace.h"
#include "hub/presets.h"
#include "runtime/memory/results.h"
#include "runtime/threads.h"

namespace mlxlm {
namespace {

using Clock = std::chrono::steady_clock;

bool on_cpu() {
  return mx::default_device() == mx::Device::cpu;
}

std::optional<mx::Dtype> dtype(ComputeType type) {
  switch (type) {
    case ComputeType::float32:
      return mx::float32;
    case ComputeType::bfloat16:
      return mx::bfloat16;
    case ComputeType::float16:
      return mx::float16;
    case ComputeType::automatic:
      break;
  }
  return std::nullopt;
}

// f16 on a CPU unless float32 was asked for; the compute type on a GPU.
mx::Dtype kv_type(ComputeType asked, mx::Dtype compute) {
  if (asked == ComputeType::float32) return mx::float32;
  return on_cpu() ? mx::float16 : compute;
}

MemoryOptions memory_options(const KvCacheOptions& asked) {
  MemoryOptions out;
  if (!asked.scheme.empty()) {
    out.storage = kv_storage(asked.scheme, asked.group_size);
    out.storage.start = asked.quantized_start;
  }
  out.max_tokens = asked.max_tokens;
  if (!asked.like_file.empty()) adopt(read_cache_file(asked.like_file), out);
  return out;
}

std::size_t peak_memory() {
  return on_cpu() ? peak_resident_memory() : mx::get_peak_memory();
}

SchedulerLimits limits(const LoadOptions& options) {
  int step = options.prefill_step_size;
  if (step <= 0) step = on_cpu() ? 512 : 2048;
  return {
      .step_tokens = step,
      .max_sequences = options.max_batch,
      .max_waiting = options.max_queue};
}

std::uint64_t entropy() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

} // namespace

Container::Container(
    std::string path,
    const LoadOptions& options,
    const LoadProgressFunction& progress)
    : path_(std::move(path)) {
  auto start = Clock::now();
  // Tokenizer and weights are read side by side: each takes a good part of the
  // time to the first token.
  auto codec = std::async(
      std::launch::async, [&] { return std::make_shared<const Codec>(path_); });
  if (options.threads > 0) set_thread_count(options.threads);
  engine_ = std::make_shared<Engine>(
      limits(options),
      [&] { return make_runner(options, progress); },
      peak_memory);
  codec_ = codec.get();
  // An assistant has no words of its own: it reads the model's embeddings.
  if (state_->draft && !state_->draft->loaded.assistant)
    check_vocabularies(
        *codec_->tokenizer(), *Codec(options.draft_model).tokenizer());

  sampling_tokens_ = std::make_unique<SamplingTokens>(codec_);
  auto stops = codec_->eos_tokens();
  const auto& loaded = state_->loaded;
  stops.insert(loaded.eos_tokens.begin(), loaded.eos_tokens.end());
  if (const auto* preset = hub::preset_of(path_))
    for (auto token : preset->extra_eos_tokens)
      if (int id = codec_->token_id(token); id >= 0) stops.insert(id);
  xtc_special_.assign(stops.begin(), stops.end());
  for (int id : codec_->encode("\n", false))
    xtc_special_.push_back(id);
  stop_tokens_ = std::make_shared<const std::set<int>>(std::move(stops));
  constraints_ = std::make_unique<ConstraintMaker>(
      codec_->tokenizer(), loaded.model->vocab(), stop_tokens_);
  context_ = loaded.max_positions > 0 ? loaded.max_positions : 1 << 20;
  if (options.context_length > 0)
    context_ = std::min(context_, options.context_length);
  step_size_ = limits(options).step_tokens;
  load_seconds_ = std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<Runner> Container::make_runner(
    const LoadOptions& options,
    const LoadProgressFunction& progress) {
  if (on_cpu()) {
    // The CPU compiler calls a C++ compiler at run time.
    mx::disable_compile();
    mx::set_cache_limit(mlx_cache_bytes);
  }
  ModelOptions model_options{
      .dtype = dtype(options.dtype),
      .quantize_activations = options.quantize_activations,
      .prediction = options.mtp,
      .adapter_path = options.adapter_path};
  if (progress)
    model_options.progress = [&](std::size_t done, std::size_t total) {
      progress({"weights", done, total});
    };
  auto loaded = load_model(path_, model_options);
  if (loaded.assistant)
    fail(
        ErrorKind::request,
        path_,
        "expected a model that runs alone, found one that only guesses for "
        "another; load that with this as its draft model");
  auto kv = kv_type(options.dtype, loaded.compute_type);
  auto specs = loaded.model->caches();
  auto budget = options.max_kv_bytes;
  // At least a byte, as nothing would mean no limit.
  if (budget == 0)
    budget = std::max<std::size_t>(1, sequence_budget(free_device_memory()));
  auto step = limits(options);
  std::size_t workspace = 0;
  if (on_cpu())
    workspace = workspace_bytes(
        *loaded.parameters,
        {loaded.model->vocab(), step.step_tokens, step.max_sequences});
  // A group's budget is of all that its models take; half of it at least are
  // sequences'.
  if (options.memory_group)
    budget = std::max(budget / 2 + 1, budget - std::min(budget, workspace));
  auto how = memory_options(options.kv_cache);
  how.dtype = kv;
  how.max_bytes = budget;
  auto memory = make_memory(specs, how);
  auto bytes = loaded.parameters->bytes();
  FootprintOptions kept{
      .dtype = kv,
      .step_tokens = limits(options).step_tokens,
      .storage = how.storage,
      .max_tokens = how.max_tokens,
      .keep_tokens = how.keep_tokens};
  Footprint footprint(specs, kept);
  state_ = std::make_shared<LoadedState>(LoadedState{
      std::move(loaded),
      std::move(memory),
      bytes,
      footprint,
      budget,
      how,
      workspace});
  FootprintOptions plain{.dtype = kv, .step_tokens = kept.step_tokens};
  std::unique_ptr<Drafter> drafter, prediction;
  if (!options.draft_model.empty())
    drafter = make_drafter(options, model_options, plain);
  if (options.mtp) prediction = make_prediction(plain);
  auto runner = std::make_unique<ModelRunner>(
      std::shared_ptr<const Model>(state_, state_->loaded.model.get()),
      std::shared_ptr<Memory>(state_, state_->memory.get()),
      reserve_weights(options, budget),
      prefix_tier(options));
  state_->adapters = std::make_shared<AdapterBank>(
      state_->loaded.parameters,
      AdapterBankOptions{on_cpu(), state_->loaded.compute_type});
  mtp_ = options.mtp;
  runner->use_adapters(state_->adapters);
  if (drafter) runner->use_draft_model(std::move(drafter));
  if (prediction) runner->use_prediction(std::move(prediction));
  return runner;
}

std::unique_ptr<Drafter> Container::make_drafter(
    const LoadOptions& options,
    ModelOptions model_options,
    const FootprintOptions& kv) {
  auto& state = *state_;
  state.draft_obstacle = obstacle_to_draft(
      options.draft_model, options.draft_policy, free_device_memory());
  if (!state.draft_obstacle.empty()) return nullptr;
  model_options.progress = {};
  model_options.prediction = false;
  state.draft =
      load_draft(options.draft_model, model_options, kv, state.sequence_bytes);
  if (state.draft->loaded.assistant)
    return make_assistant(
        state.draft,
        std::shared_ptr<const Model>(state_, state.loaded.model.get()),
        std::shared_ptr<Memory>(state_, state.memory.get()),
        state.weight_bytes);
  return make_draft_model(
      state.draft, *state.loaded.model, state.weight_bytes, kv.step_tokens);
}

std::unique_ptr<Drafter> Container::make_prediction(
    const FootprintOptions& kv) {
  auto& state = *state_;
  state.prediction =
      open_prediction(*state.loaded.model, kv, state.sequence_bytes);
  return make_prediction_drafter(
      std::shared_ptr<const Model>(state_, state.loaded.model->prediction()),
      std::shared_ptr<Memory>(state.prediction, state.prediction->memory.get()),
      *state.loaded.parameters,
      kv.step_tokens);
}

// What is used: a draft model that there was no room for is done without.
DraftKind Container::draft_kind(const GenerateParameters& parameters) const {
  auto kind = parameters.draft.kind;
  bool model = state_->draft != nullptr;
  bool own = state_->prediction != nullptr;
  if (kind == DraftKind::automatic)
    return model ? DraftKind::model : own ? DraftKind::mtp : DraftKind::none;
  if (kind == DraftKind::mtp && !own)
    fail(
        ErrorKind::request,
        "draft",
        "expected what predicts further tokens to be loaded (mtp), found none");
  if (kind != DraftKind::model || model) return kind;
  if (state_->draft_obstacle.empty())
    fail(
        ErrorKind::request,
        "draft",
        "expected a draft model to be loaded, found none");
  return DraftKind::none;
}

// Weights and workspace are there for as long as the container is, beside what
// is the sequences'. One group, so that all count together.
SequenceBudget Container::reserve_weights(
    const LoadOptions& options,
    std::size_t budget) {
  constexpr std::size_t most = std::numeric_limits<std::int64_t>::max();
  const auto& draft = state_->draft;
  auto always = state_->weight_bytes + (draft ? draft->weight_bytes : 0) +
      state_->workspace;
  always = std::min(always, most);
  auto cap = std::min(budget, most - always) + always;
  auto wired = options.wired_memory ? options.wired_memory : wired_memory();
  auto policy = options.memory_group;
  if (!policy) {
    policy = engine_policy(static_cast<std::int64_t>(cap));
    auto reserved = make_ticket(
        static_cast<std::int64_t>(always), policy, WiredKind::reservation);
    weights_ = std::make_unique<WiredHold>(wired, std::move(reserved));
  }
  std::vector<Footprint> also;
  if (draft) also.push_back(draft->footprint);
  if (state_->prediction) also.push_back(state_->prediction->footprint);
  // A drafter that finds no room guesses nothing: no reason to refuse.
  auto need = [own = state_->footprint, also, budget](int tokens) {
    auto bytes = own.bytes_for(tokens), all = bytes;
    for (const auto& more : also)
      all += more.bytes_for(tokens);
    return also.empty() ? bytes : std::min(all, std::max(bytes, budget));
  };
  return {wired, policy, budget, std::move(need)};
}

Container::~Container() {
  // The last reference to model and memory is the runner's, on its thread.
  state_.reset();
}

Capabilities Container::capabilities() const {
  auto out = codec_->capabilities();
  out.mtp = state_->loaded.model->prediction() != nullptr;
  return out;
}

MemoryFigures Container::memory() {
  MemoryFigures figures;
  engine_->look([&](const Runner& runner) {
    auto pages = runner.pages();
    figures.pages_in_use = pages.in_use;
    figures.pages_kept = pages.kept;
    figures.kv = state_->memory->bytes();
    figures.active = kernels::live_arrays();
    figures.cache = mx::get_cache_memory() + kernels::results().unused();
    figures.peak = mx::get_peak_memory();
  });
  figures.workspace = state_->workspace;
  figures.weights = state_->weight_bytes;
  if (state_->draft) figures.weights += state_->draft->weight_bytes;
  figures.resident = resident_memory();
  figures.peak_resident = peak_resident_memory();
  return figures;
}

void Container::perform(const std::function<void()>& work) {
  engine_->perform(work);
}

// ---- generating
// -----------------------------------------------------------------
void Container::check_prompt(const std::vector<int>& prompt) const {
  if (prompt.empty())
    fail(ErrorKind::request, "prompt", "expected tokens, found none");
  int vocab = state_->loaded.model->vocab();
  for (int id : prompt)
    if (id < 0 || id >= vocab)
      fail(
          ErrorKind::request,
          "prompt",
          "expected token ids below {}, found {}",
          vocab,
          id);
  if (prompt.size() >= static_cast<std::size_t>(context_))
    fail(
        ErrorKind::request,
        "prompt",
        "expected fewer tokens than the context of {}, found {}",
        context_,
        prompt.size());
}

Request Container::request(
    std::vector<int> prompt,
    const GenerateParameters& parameters) const {
  check_prompt(prompt);
  validate(parameters);
  int vocab = state_->loaded.model->vocab();
  for (auto [token, bias] : parameters.sampling.logit_bias)
    if (token < 0 || token >= vocab)
      fail(
          ErrorKind::request,
          "logit_bias",
          "expected token ids below {}, found {}",
          vocab,
          token);

  Request request;
  request.draft = parameters.draft;
  request.draft.kind = draft_kind(parameters);
  int room = context_ - static_cast<int>(prompt.size());
  int asked = parameters.max_tokens.value_or(-1);
  request.open_ended = asked < 0;
  if (asked < 0) {
    // As far as memory goes; what does not even fit alone is refused later.
    int fits =
        state_->footprint.tokens_within(state_->sequence_bytes, context_);
    asked = std::max(1, fits - static_cast<int>(prompt.size()));
  }
  request.max_tokens = std::min(asked, room);
  request.sampling = parameters.sampling;
  if (request.sampling.xtc_special_tokens.empty())
    request.sampling.xtc_special_tokens = xtc_special_;
  request.seed = parameters.seed ? *parameters.seed : entropy();
  request.logprobs = parameters.logprobs;
  request.constraint =
      constraints_->make(parameters, prompt, request.max_tokens);
  request.forced = parameters.draft.num_tokens.value_or(1) > 0;
  auto stops = std::make_shared<std::set<int>>();
  // What a grammar ends, ends.
  if (!parameters.ignore_eos || request.constraint) {
    *stops = *stop_tokens_;
    stops->insert(
        parameters.extra_eos_tokens.begin(), parameters.extra_eos_tokens.end());
  }
  sampling_tokens_->fill(request.sampling, *stops);
  request.stop_tokens = std::move(stops);
  request.prompt = std::move(prompt);
  return request;
}

std::vector<GenerationPtr> Container::submit(
    std::vector<Request> requests,
    const GenerateParameters& parameters) {
  std::vector<GenerationPtr> generations;
  std::vector<RequestPtr> accepted;
  for (auto& request : requests) {
    // A progress event a prompt token at worst, a token event each, the end.
    auto tokens = request.prompt.size() + request.max_tokens;
    request.channel = std::make_shared<Channel>(tokens + 2);
    generations.push_back(std::make_unique<TextStream>(
        request.channel, codec_->tokenizer(), parameters, engine_));
    if (request.max_tokens == 0) {
      GenerateInfo info{.seed = request.seed};
      info.finish_reason = FinishReason::length;
      request.channel->end(FinishedEvent{std::move(info)});
      continue;
    }
    accepted.push_back(std::make_shared<const Request>(std::move(request)));
  }
  engine_->submit(std::move(accepted));
  return generations;
}

GenerationPtr Container::generate(
    std::vector<int> prompt,
    const GenerateParameters& parameters,
    PromptCachePtr cache) {
  std::vector<Request> requests;
  requests.push_back(request(std::move(prompt), parameters));
  requests[0].cache = sequence_cache(cache);
  return std::move(submit(std::move(requests), parameters)[0]);
}

std::vector<GenerationPtr> Container::generate_several(
    std::vector<int> prompt,
    const GenerateParameters& parameters,
    int count) {
  if (count < 1)
    fail(ErrorKind::request, "count", "expected 1 or more, found {}", count);
  std::vector<Request> requests(
      std::size_t(count), request(std::move(prompt), parameters));
  for (std::size_t i = 1; i < requests.size(); ++i) {
    requests[i].sample = static_cast<std::uint32_t>(i);
    requests[i].follows = true;
  }
  return submit(std::move(requests), parameters);
}

PromptCachePtr Container::make_prompt_cache() {
  return mlxlm::make_prompt_cache(engine_);
}

Score Container::score(
    std::span<const int> ids,
    const std::function<void(int done, int total)>& progress) {
  if (ids.size() < 2)
    fail(
        ErrorKind::request,
        "score",
        "expected at least two tokens, found {}",
        ids.size());
  int vocab = state_->loaded.model->vocab();
  for (int id : ids)
    if (id < 0 || id >= vocab)
      fail(
          ErrorKind::request,
          "score",
          "expected token ids below {}, found {}",
          vocab,
          id);
  Score score;
  perform([&] {
    score = score_tokens(
        *state_->loaded.model, *state_->memory, ids, context_, progress);
  });
  return score;
}

std::shared_ptr<ModelContainer> load(
    std::string_view reference,
    const LoadOptions& options,
    const LoadProgressFunction& progress) {
  FetchOptions fetching;
  fetching.downloader = options.downloader;
  fetching.control.cancelled = options.cancelled;
  if (progress)
    fetching.control.progress = [&](const DownloadProgress& p) {
      progress(
          {.phase = "download",
           .done = p.done,
           .total = p.total,
           .bytes_per_second = p.bytes_per_second,
           .seconds_left = p.seconds_left,
           .note = p.note});
    };
  auto with_draft = options;
  if (!options.draft_model.empty())
    with_draft.draft_model = fetch(options.draft_model, fetching);
  return std::make_shared<Container>(
      fetch(reference, fetching), with_draft, progress);
}

} // namespace mlxlm

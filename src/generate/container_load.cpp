// A container comes about: tokenizer and model side by side, then what the
// engine's thread runs, all within the budget of memory.
#include <mlx/compile.h>
#include <mlx/device.h>
#include <mlx/memory.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>

#include "cache/storage.h"
#include "core/check.h"
#include "generate/cache_file.h"
#include "generate/container.h"
#include "generate/machine.h"
#include "generate/workspace.h"
#include "hub/presets.h"
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

void prepare_device() {
  if (!on_cpu()) return;
  // The CPU compiler calls a C++ compiler at run time.
  mx::disable_compile();
  mx::set_cache_limit(mlx_cache_bytes);
}

ModelOptions model_options(
    const LoadOptions& options,
    const LoadProgressFunction& progress) {
  ModelOptions out{
      .dtype = dtype(options.dtype),
      .quantize_activations = options.quantize_activations,
      .prediction = options.mtp,
      .adapter_path = options.adapter_path};
  if (progress)
    out.progress = [progress](std::size_t done, std::size_t total) {
      progress({"weights", done, total});
    };
  return out;
}

// Bytes of the sequences' memory, and of what passes need besides.
struct Room {
  std::size_t sequences, workspace;
};

Room room_for(const LoadedModel& loaded, const LoadOptions& options) {
  Room room{options.max_kv_bytes, 0};
  // At least a byte, as nothing would mean no limit.
  if (room.sequences == 0)
    room.sequences =
        std::max<std::size_t>(1, sequence_budget(free_device_memory()));
  auto step = limits(options);
  if (on_cpu())
    room.workspace = workspace_bytes(
        *loaded.parameters,
        {loaded.model->vocab(), step.step_tokens, step.max_sequences});
  // A group's budget is of all that its models take; half of it at least are
  // sequences'.
  if (options.memory_group) {
    auto all = room.sequences;
    room.sequences = std::max(all / 2 + 1, all - std::min(all, room.workspace));
  }
  return room;
}

LoadedState with_memory(LoadedModel loaded, const LoadOptions& options) {
  auto specs = loaded.model->caches();
  auto room = room_for(loaded, options);
  auto how = memory_options(options.kv_cache);
  how.dtype = kv_type(options.dtype, loaded.compute_type);
  how.max_bytes = room.sequences;
  auto memory = make_memory(specs, how);
  auto bytes = loaded.parameters->bytes();
  Footprint footprint(
      specs,
      {.dtype = how.dtype,
       .step_tokens = limits(options).step_tokens,
       .storage = how.storage,
       .max_tokens = how.max_tokens,
       .keep_tokens = how.keep_tokens});
  return {
      std::move(loaded),
      std::move(memory),
      bytes,
      footprint,
      room.sequences,
      how,
      room.workspace};
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
  prepare_device();
  auto how = model_options(options, progress);
  auto loaded = load_model(path_, how);
  if (loaded.assistant)
    fail(
        ErrorKind::request,
        path_,
        "expected a model that runs alone, found one that only guesses for "
        "another; load that with this as its draft model");
  state_ =
      std::make_shared<LoadedState>(with_memory(std::move(loaded), options));
  FootprintOptions plain{
      .dtype = state_->memory_options.dtype,
      .step_tokens = limits(options).step_tokens};
  std::unique_ptr<Drafter> drafter, prediction;
  if (!options.draft_model.empty()) drafter = make_drafter(options, how, plain);
  if (options.mtp) prediction = make_prediction(plain);
  auto runner = std::make_unique<ModelRunner>(
      std::shared_ptr<const Model>(state_, state_->loaded.model.get()),
      std::shared_ptr<Memory>(state_, state_->memory.get()),
      reserve_weights(options, state_->sequence_bytes),
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

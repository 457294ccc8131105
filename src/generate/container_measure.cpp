// What a model does and takes, measured: bench() and measure().
#include <mlx/memory.h>

#include <algorithm>
#include <random>

#include "cache/layout.h"
#include "core/check.h"
#include "generate/container.h"
#include "generate/prompt_cache.h"
#include "runtime/memory/device.h"

namespace mlxlm {
namespace {

std::vector<int> random_ids(std::mt19937& random, int count, int vocab) {
  std::uniform_int_distribution<int> any(0, vocab - 1);
  std::vector<int> ids(std::max(count, 0));
  for (int& id : ids)
    id = any(random);
  return ids;
}

// Random rows for one layer of a kind, used again and again.
CacheRows random_rows(const cache::Geometry& g, int count) {
  std::mt19937 random(1);
  std::normal_distribution<float> values;
  CacheRows rows{count};
  auto heads = std::size_t(count) * g.kv_heads;
  rows.k.resize(heads * g.k_dim);
  if (!g.latent) rows.v.resize(heads * g.v_dim);
  for (auto* side : {&rows.k, &rows.v})
    for (float& x : *side)
      x = values(random);
  return rows;
}

// The first `count` of them.
CacheRows first_rows(const CacheRows& rows, int count) {
  auto cut = [&](const std::vector<float>& x) {
    auto size = x.size() / std::size_t(rows.count) * std::size_t(count);
    return std::vector<float>(x.begin(), x.begin() + std::ptrdiff_t(size));
  };
  return {count, cut(rows.k), cut(rows.v)};
}

// Remembers `tokens` that nobody has read.
void fill(
    SequenceMemory& sequence,
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options,
    int tokens) {
  cache::Layout layout(specs);
  layout.limit(options.max_tokens, options.keep_tokens);
  constexpr int together = 512;
  sequence.begin(tokens);
  for (int i = 0; i < int(layout.layers.size()); ++i) {
    const auto& layer = layout.layers[i];
    bool own = layer.kind == cache::Layer::Kind::keys_values && !layer.borrows;
    if (!own) continue;
    const auto& geometry = layout.groups[layer.group].geometry;
    auto rows = random_rows(geometry, together);
    for (auto [first, last] : geometry.shown(tokens))
      for (int at = first; at < last; at += together) {
        int count = std::min(together, last - at);
        sequence.set_rows(
            i, at, count == together ? rows : first_rows(rows, count));
      }
  }
  sequence.commit(tokens);
}

} // namespace

MeasuredBudget Container::measure(int tokens) {
  GenerateParameters parameters{.sampling = {.temperature = 0}};
  parameters.max_tokens = 1;
  parameters.ignore_eos = true;
  std::mt19937 random(0);
  auto ids = random_ids(random, tokens, state_->loaded.model->vocab());
  std::size_t before = 0, peak = 0, after = 0;
  perform([&] {
    release_memory();
    mx::reset_peak_memory();
    before = mx::get_active_memory();
  });
  auto cache = make_prompt_cache();
  std::vector<Request> requests;
  requests.push_back(request(std::move(ids), parameters));
  requests[0].cache = sequence_cache(cache);
  requests[0].share_prefix = false; // every measurement reads its prompt
  submit(std::move(requests), parameters)[0]->text();
  MeasuredBudget measured;
  measured.kv = cache->bytes();
  perform([&] {
    peak = mx::get_peak_memory();
    release_memory();
    after = mx::get_active_memory();
  });
  // Weights and pages that CPU kernels own are not the array engine's.
  auto kept = std::max(before, after);
  measured.workspace = peak - std::min(peak, kept);
  measured.weights = state_->weight_bytes;
  measured.peak_active = measured.total();
  measured.tokens = tokens;
  measured.prefill_step_size = step_size_;
  return measured;
}

// Caches of sequences that seem to have read `shape.depth` tokens, as they were
// before an earlier trial where there was one: filling them takes long.
void Container::pretend(const BenchShape& shape) {
  auto depth = static_cast<std::size_t>(shape.depth);
  auto count = static_cast<std::size_t>(shape.batch);
  auto& [known, caches] = pretended_;
  bool again = depth > 0 && known == shape.depth && caches.size() == count;
  if (!again) caches.clear();
  known = shape.depth;
  std::mt19937 random(0);
  for (std::size_t i = 0; i < count; ++i) {
    if (!again) caches.push_back(make_prompt_cache());
    if (depth == 0) continue;
    auto inside = sequence_cache(caches[i]);
    engine_->look([&](const Runner&) {
      auto& memory = inside->memory;
      if (memory && memory->trim(shape.depth) == shape.depth) {
        inside->tokens.resize(depth);
        return;
      }
      memory = state_->memory->sequence();
      fill(
          *memory,
          state_->loaded.model->caches(),
          state_->memory_options,
          shape.depth);
      memory->mark();
      inside->tokens =
          random_ids(random, shape.depth, state_->loaded.model->vocab());
      inside->foreign = true;
    });
  }
}

namespace {

void check_bench(const BenchShape& shape, int context) {
  bool good = shape.prompt >= 1 && shape.generation >= 1 && shape.batch >= 1 &&
      shape.depth >= 0;
  if (!good)
    fail(
        ErrorKind::request,
        "bench",
        "expected at least one token, prompt and sequence, found {}, {}, {}",
        shape.prompt,
        shape.generation,
        shape.batch);
  auto all = std::int64_t{shape.depth} + shape.prompt + shape.generation;
  if (all >= context)
    fail(
        ErrorKind::request,
        "bench",
        "expected a prompt and answer within the context of {}, found {}",
        context,
        all);
}

} // namespace

BenchTrial Container::bench(const BenchShape& shape) {
  check_bench(shape, context_);
  GenerateParameters parameters{.sampling = {.temperature = 0}};
  // The prompt's pass draws the first.
  parameters.max_tokens = shape.generation + 1;
  parameters.ignore_eos = true;
  parameters.draft = shape.draft;
  pretend(shape);
  std::mt19937 random(1);
  int vocab = state_->loaded.model->vocab();
  std::vector<Request> requests;
  for (const auto& cache : pretended_.caches) {
    auto before = sequence_cache(cache);
    auto ids = before->tokens;
    for (int id : random_ids(random, shape.prompt, vocab))
      ids.push_back(id);
    requests.push_back(request(std::move(ids), parameters));
    requests.back().cache = before;
    requests.back().group = 1;
    requests.back().share_prefix = false; // every trial reads its prompt
  }
  BenchTrial trial;
  double first = 0, last = 0; // since submission
  for (auto& running : submit(std::move(requests), parameters)) {
    running->text();
    const auto& info = running->info();
    double begins = info.queue_time + info.prompt_time;
    first = std::max(first, begins);
    last = std::max(last, begins + info.generate_time);
    trial.draft += info.draft;
    trial.peak_memory_bytes =
        std::max(trial.peak_memory_bytes, info.peak_memory_bytes);
  }
  // The pass that was ahead still has the sequences, for one turn.
  engine_->look([](const Runner&) {});
  for (const auto& cache : pretended_.caches)
    trial.kv_bytes += cache->bytes();
  trial.prompt_seconds = first;
  trial.generation_seconds = last - first;
  trial.prompt_tps = shape.batch * shape.prompt / trial.prompt_seconds;
  trial.generation_tps =
      shape.batch * shape.generation / trial.generation_seconds;
  return trial;
}

} // namespace mlxlm

// A decode step's attention at a depth of 32k tokens, four layers of eight key
// heads of 128, for every storage: time, the memory that is really resident,
// and what the machine reads when it does nothing else. Run it with
// --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true.
#include <benchmark/benchmark.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <random>

#include "cache/memory.h"
#include "cache/storage.h"
#include "runtime/threads.h"

namespace mlxlm {
namespace {

// Not where a page begins, which one step in 64 does.
constexpr int depth = 32768 + 20;
constexpr int layers = 4, heads = 16, kv_heads = 8, dim = 128;

std::size_t resident() {
  long all = 0, mine = 0;
  if (auto* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%ld %ld", &all, &mine) != 2) mine = 0;
    std::fclose(f);
  }
  return std::size_t(mine) * std::size_t(sysconf(_SC_PAGESIZE));
}

// A sequence that remembers `depth` random tokens.
struct Filled {
  explicit Filled(const std::string& scheme) {
    MemoryOptions options;
    if (!scheme.empty()) options.storage = kv_storage(scheme);
    std::vector<CacheSpec> specs(layers, FullKv{kv_heads, dim});
    constexpr int chunk = 64;
    CacheRows rows{chunk};
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (auto* part : {&rows.k, &rows.v}) {
      part->resize(std::size_t(chunk) * kv_heads * dim);
      for (auto& x : *part)
        x = normal(random);
    }
    memory = make_memory(specs, options);
    auto before = resident();
    sequence = memory->sequence();
    constexpr int filled = (depth + chunk - 1) / chunk * chunk;
    sequence->begin(filled);
    for (int i = 0; i < layers; ++i)
      for (int at = 0; at < filled; at += chunk)
        sequence->set_rows(i, at, rows);
    sequence->commit(depth);
    live = resident() - before;
  }

  std::unique_ptr<Memory> memory;
  std::unique_ptr<SequenceMemory> sequence;
  std::size_t live;
};

void decode(benchmark::State& state, const std::string& scheme) {
  static std::map<std::string, std::unique_ptr<Filled>> all;
  auto& filled = all[scheme];
  if (!filled) filled = std::make_unique<Filled>(scheme);
  auto& s = *filled->sequence;
  auto draw = [](int n) {
    auto x = mx::random::normal({1, 1, n, dim}, mx::float32);
    x.eval();
    return x;
  };
  auto q = draw(heads), k = draw(kv_heads);
  for (auto _ : state) {
    s.begin(1);
    Step step({{&s, 0, 1, depth}});
    auto x = q;
    for (int i = 0; i < layers; ++i)
      x = filled->memory->layer(i).attend(step, x, k, k, {.scale = 0.09f});
    x.eval();
    s.rollback();
  }
  state.SetBytesProcessed(
      std::int64_t(state.iterations()) * std::int64_t(filled->memory->bytes()));
  state.counters["live_MB"] = double(filled->live) / 1e6;
  state.counters["counted_MB"] = double(filled->memory->bytes()) / 1e6;
}

// As much as the f16 pages hold, read by all threads.
void read(benchmark::State& state) {
  static std::vector<std::uint64_t> data(std::size_t(1) << 27, 1); // 1 GB
  int parts = 4 * thread_count();
  std::vector<std::uint64_t> sums(parts);
  for (auto _ : state) {
    parallel_for(parts, [&](int i) {
      auto each = data.size() / parts;
      std::uint64_t sum = 0;
      for (auto j = i * each; j < (i + 1) * each; ++j)
        sum += data[j];
      sums[i] = sum;
    });
    benchmark::DoNotOptimize(sums);
  }
  state.SetBytesProcessed(
      std::int64_t(state.iterations()) * std::int64_t(data.size() * 8));
}

BENCHMARK(read)->UseRealTime();
BENCHMARK_CAPTURE(decode, f16, "")->UseRealTime();
BENCHMARK_CAPTURE(decode, affine8, "affine8")->UseRealTime();
BENCHMARK_CAPTURE(decode, affine4, "affine4")->UseRealTime();
BENCHMARK_CAPTURE(decode, turbo4, "turbo4")->UseRealTime();
BENCHMARK_CAPTURE(decode, turbo3, "turbo3")->UseRealTime();
BENCHMARK_CAPTURE(decode, turbo8v3, "turbo8v3")->UseRealTime();

} // namespace
} // namespace mlxlm

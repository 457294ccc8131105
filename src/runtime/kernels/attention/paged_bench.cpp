// Paged attention: decode at several depths (bytes of keys and values a second)
// and prefill (multiply-adds counted as two operations, the causal half only).
#include <benchmark/benchmark.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/kernels/attention/paged.h"

namespace mlxlm::kernels {
namespace {

struct Model {
  int heads, kv_heads, dim;
};
constexpr Model smollm2{9, 3, 64}, llama_1b{32, 8, 64}, llama_8b{32, 8, 128};

// Pages of `tokens` for enough layers that caches do not hold them.
class Pages {
 public:
  Pages(const Model& m, int tokens, std::size_t at_least)
      : layout{FloatType::f16, m.kv_heads, m.dim, m.dim, 64} {
    int count = (tokens + 63) / 64;
    auto one = layout.layer_bytes();
    layers = int(std::max<std::size_t>(1, at_least / (one * count)));
    auto page = one * layers + PageLayout::slack;
    constexpr std::size_t huge = std::size_t(2) << 20;
    memory.reset(static_cast<std::byte*>(
        std::aligned_alloc(huge, (page * count + huge - 1) / huge * huge)));
#ifdef MADV_HUGEPAGE
    madvise(memory.get(), page * count, MADV_HUGEPAGE); // as the cache does
#endif
    std::memset(memory.get(), 0, page * count);
    auto list = std::make_shared<std::vector<std::byte*>>();
    for (int i = 0; i < count; ++i)
      list->push_back(memory.get() + i * page);
    pages = list;
  }

  PagedAttention layer(int index, int count, int offset) const {
    return {
        layout,
        (index % layers) * layout.layer_bytes(),
        {0.125f},
        std::make_shared<std::vector<PagedSegment>>(
            1, PagedSegment{pages, 0, count, offset})};
  }

  PageLayout layout;
  int layers;
  struct Free {
    void operator()(std::byte* p) const {
      std::free(p);
    }
  };
  std::unique_ptr<std::byte, Free> memory;
  std::shared_ptr<const std::vector<std::byte*>> pages;
};

mx::array numbers(mx::Shape shape) {
  auto x = mx::random::normal(shape, mx::float32);
  mx::eval(x);
  return x;
}

void decode(benchmark::State& state, const Model& m) {
  int depth = int(state.range(0));
  Pages pages(m, depth, std::size_t(128) << 20);
  auto q = numbers({1, 1, m.heads, m.dim});
  auto k = numbers({1, 1, m.kv_heads, m.dim});
  constexpr int at_once = 30; // layers in one evaluation
  int layer = 0;
  for (auto _ : state) {
    auto x = q;
    for (int i = 0; i < at_once; ++i) {
      auto op = pages.layer(layer++, 1, depth - 1);
      x = paged_attention(op, x, std::pair{k, k}, std::nullopt, {}).out;
    }
    mx::eval(x);
  }
  auto bytes = double(depth) * m.kv_heads * m.dim * 2 * 2;
  state.SetBytesProcessed(
      std::int64_t(double(state.iterations()) * at_once * bytes));
  state.counters["us_a_layer"] = benchmark::Counter(
      double(state.iterations()) * at_once * 1e-6,
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void prefill(benchmark::State& state, const Model& m) {
  int n = int(state.range(0));
  Pages pages(m, n, 0);
  auto q = numbers({1, n, m.heads, m.dim});
  auto k = numbers({1, n, m.kv_heads, m.dim});
  for (auto _ : state) {
    auto op = pages.layer(0, n, 0);
    mx::eval(paged_attention(op, q, std::pair{k, k}, std::nullopt, {}).out);
  }
  auto work = 2.0 * n * (n + 1) / 2 * m.heads * m.dim * 2;
  state.counters["GFLOP/s"] = benchmark::Counter(
      work * 1e-9 * double(state.iterations()), benchmark::Counter::kIsRate);
}

BENCHMARK_CAPTURE(decode, smollm2, smollm2)
    ->Arg(16)
    ->Arg(512)
    ->Arg(4096)
    ->Arg(32768)
    ->UseRealTime();
BENCHMARK_CAPTURE(decode, llama_8b, llama_8b)
    ->Arg(512)
    ->Arg(4096)
    ->Arg(32768)
    ->UseRealTime();
BENCHMARK_CAPTURE(prefill, smollm2, smollm2)
    ->Arg(512)
    ->Arg(2048)
    ->UseRealTime();
BENCHMARK_CAPTURE(prefill, llama_1b, llama_1b)->Arg(512)->UseRealTime();
BENCHMARK_CAPTURE(prefill, llama_8b, llama_8b)->Arg(512)->UseRealTime();

} // namespace
} // namespace mlxlm::kernels

// The kernels of recurrent blocks at published sizes: time of one layer for a
// decode step and for a prompt.
#include <benchmark/benchmark.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "runtime/kernels/mixers.h"

namespace mlxlm::kernels {
namespace {

StatePlacesPtr one_sequence(
    int tokens,
    const mx::array& before,
    const mx::array& after) {
  auto places = std::make_shared<StatePlaces>();
  places->segments.push_back(
      {0,
       tokens,
       before.data<std::byte>(),
       const_cast<std::byte*>(after.data<std::byte>())});
  return places;
}

template <typename Mix>
void run(benchmark::State& state, const mx::Shape& shape, const Mix& mix) {
  int tokens = static_cast<int>(state.range(0));
  auto before = mx::contiguous(mx::random::normal(shape));
  auto after = mx::contiguous(mx::random::normal(shape));
  mx::eval(before, after);
  auto places = one_sequence(tokens, before, after);
  for (auto _ : state)
    mx::eval(mix(places));
  state.counters["tokens/s"] =
      benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
}

void mamba2(benchmark::State& state) { // Nemotron-H's heads
  SpaceShape s{64, 64, 8, 128};
  int n = static_cast<int>(state.range(0)), width = 64 * 64 + 2 * 8 * 128;
  auto x = mx::random::normal({1, n, width}),
       dt = mx::random::normal({1, n, 64});
  auto each = mx::random::normal({64});
  mx::eval(x, dt, each);
  run(state, {64, 64, 128}, [&](const StatePlacesPtr& places) {
    return space_mixer(x, dt, each, each, each, places, s);
  });
}
BENCHMARK(mamba2)->Arg(1)->Arg(8)->Arg(512)->UseRealTime();

void gated_delta(benchmark::State& state) { // Qwen3-Next's heads
  DeltaHeads h{16, 32, 128, 128};
  int n = static_cast<int>(state.range(0));
  auto qkv = mx::random::normal({1, n, 8192});
  auto gates = mx::sigmoid(mx::random::normal({1, n, 32}));
  mx::eval(qkv, gates);
  run(state, {32, 128, 128}, [&](const StatePlacesPtr& places) {
    return delta_mixer(qkv, gates, gates, places, h);
  });
}
BENCHMARK(gated_delta)->Arg(1)->Arg(8)->Arg(512)->UseRealTime();

void convolution(benchmark::State& state) {
  int n = static_cast<int>(state.range(0));
  auto x = mx::random::normal({1, n, 8192}),
       taps = mx::random::normal({4, 8192});
  mx::eval(x, taps);
  run(state, {3, 8192}, [&](const StatePlacesPtr& places) {
    return short_conv(x, taps, std::nullopt, places, {.silu = true});
  });
}
BENCHMARK(convolution)->Arg(1)->Arg(512)->UseRealTime();

} // namespace
} // namespace mlxlm::kernels

// Products by format and shape: GB/s of packed weights for one row, GFLOP/s for
// many. Matrices are taken in turn from a set larger than the caches.
#include <benchmark/benchmark.h>

#include <fmt/format.h>

#include <atomic>

#include "core/env.h"
#include "runtime/kernels/linear/multiply.h"
#include "runtime/kernels/linear/sample.h"
#include "runtime/kernels/linear/target.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {
namespace {

// Bytes read a second by all threads.
void read_bandwidth(benchmark::State& state) {
  std::vector<std::uint64_t> data(std::size_t{32} << 20, 1);
  constexpr int parts = 1024;
  std::atomic<std::uint64_t> all{0};
  for (auto _ : state) {
    parallel_for(parts, [&](int i) {
      auto size = data.size() / parts;
      std::uint64_t sums[16] = {};
      for (std::size_t k = i * size; k < (i + 1) * size; k += 16) {
        for (int j = 0; j < 16; j++) {
          sums[j] += data[k + j];
        }
      }
      for (auto sum : sums) {
        all += sum;
      }
    });
  }
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(data.size() * 8) / 1e9,
      benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(read_bandwidth)->UseRealTime();

struct Case {
  std::string format;
  int outputs, inputs, rows;
  bool int8;
  bool cached = false;
};

// The matrices of one case, kept while its repetitions run.
const std::vector<MatrixPtr>& matrices(const Case& c) {
  static std::string held;
  static std::vector<MatrixPtr> all;
  auto name = fmt::format("{} {} {}", c.format, c.outputs, c.inputs);
  if (name != held) {
    all.clear();
    const auto& spec = format(c.format);
    SampleRows source(spec, c.outputs, c.inputs, 1);
    std::size_t bytes = 0;
    while (bytes < std::size_t{192} << 20) {
      all.push_back(pack(spec, c.outputs, c.inputs, 1, source, "w"));
      bytes += all.back()->bytes();
    }
    held = name;
  }
  return all;
}

void product(benchmark::State& state, const Case& c) {
  const auto& all = matrices(c);
  auto x = sample_values(std::size_t(c.rows) * c.inputs, 2);
  std::vector<float> out(std::size_t(c.rows) * c.outputs);
  std::size_t turn = 0;
  for (auto _ : state) {
    Segment s;
    s.matrix = static_cast<const Packed*>(all[turn++ % all.size()].get());
    s.count = c.rows;
    s.out = out.data();
    multiply({x.data(), Float::f32}, c.rows, c.inputs, c.int8, {&s, 1});
  }
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(
      static_cast<double>(all[0]->bytes()) / 1e9,
      Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = Counter(
      2e-9 * c.rows * c.outputs * c.inputs, Counter::kIsIterationInvariantRate);
}

const bool registered = [] {
  if (auto threads = env::get("MLXLM_BENCH_THREADS")) {
    set_thread_count(std::stoi(*threads));
  }
  for (const char* name :
       {"q4_1",
        "q4_0",
        "affine4_g64_bf16",
        "q8_0",
        "q6_k",
        "q4_k",
        "affine3_g64_f16",
        "affine5_g64_f16",
        "affine2_g64_f16",
        "mxfp4",
        "nvfp4",
        "mxfp8",
        "bf16",
        "f32"}) {
    for (auto [outputs, inputs] :
         {std::pair{1536, 576},
          {576, 1536},
          {2048, 2048},
          {8192, 2048},
          {2048, 8192}}) {
      for (int rows : {1, 8, 512}) {
        for (bool int8 : {false, true}) {
          Case c{name, outputs, inputs, rows, int8};
          auto label = fmt::format(
              "{}/{}x{}/{}{}",
              name,
              outputs,
              inputs,
              rows,
              int8 ? "/int8" : "");
          benchmark::RegisterBenchmark(label.c_str(), product, c)
              ->UseRealTime()
              ->MinTime(0.1);
        }
      }
    }
  }
  return true;
}();

} // namespace
} // namespace mlxlm::kernels

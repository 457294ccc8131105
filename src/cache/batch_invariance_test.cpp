// What a sequence gets does not depend on how its passes are cut, nor on who
// shares them.
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "cache/memory.h"
#include "runtime/kernels/attention/reference.h"

namespace mlxlm {
namespace {

struct Inputs {
  mx::array q, k, v;

  // Of two key heads with three queries each.
  Inputs(int n, int k_dim, int v_dim, int seed)
      : q(random({1, n, 6, k_dim}, seed)),
        k(random({1, n, 2, k_dim}, seed + 1)),
        v(random({1, n, 2, v_dim}, seed + 2)) {}

  static mx::array random(mx::Shape shape, int seed) {
    return mx::random::normal(shape, mx::float32, mx::random::key(seed));
  }
  static mx::array part(const mx::array& x, int first, int last) {
    return mx::slice(x, {0, first, 0, 0}, {1, last, x.shape(2), x.shape(3)});
  }
};

// Runs [first, last) of a sequence's inputs, alone or behind `beside`, and
// gives what its tokens got.
mx::array run_part(
    Memory& memory,
    SequenceMemory& s,
    const Inputs& in,
    int first,
    int last,
    const Inputs* beside) {
  auto q = Inputs::part(in.q, first, last), k = Inputs::part(in.k, first, last),
       v = Inputs::part(in.v, first, last);
  auto other = memory.sequence();
  std::vector<Segment> segments;
  int before = 0;
  if (beside) {
    before = beside->q.shape(1);
    other->begin(before);
    segments.push_back({other.get(), 0, before, 0});
    q = mx::concatenate({beside->q, q}, 1);
    k = mx::concatenate({beside->k, k}, 1);
    v = mx::concatenate({beside->v, v}, 1);
  }
  s.begin(last - first);
  segments.push_back({&s, before, last - first, first});
  Step step(segments);
  auto& layer = memory.layer(0);
  AttendOptions options{.scale = 0.125f};
  auto out = layer.attend(step, q, k, v, options);
  out = Inputs::part(out, before, before + last - first);
  mx::eval(out);
  s.commit(last - first);
  return out;
}

TEST(BatchInvariance, ResultsAreBitEqualHoweverThePassIsCut) {
  int n = 1100; // several chunks of the kernel
  for (int window : {0, 300}) {
    CacheSpec spec = FullKv{2, 40, 24};
    if (window) spec = SlidingKv{2, 40, window, 24};
    for (auto type : {mx::float16, mx::float32}) {
      Inputs in(n, 40, 24, 1), beside(70, 40, 24, 9);
      auto run = [&](std::vector<int> cuts, bool alone) {
        auto memory = make_memory({spec}, {.dtype = type});
        auto s = memory->sequence();
        std::vector<mx::array> parts;
        int first = 0;
        cuts.push_back(n);
        for (int last : cuts) {
          parts.push_back(run_part(
              *memory, *s, in, first, last, alone ? nullptr : &beside));
          first = last;
        }
        return mx::concatenate(parts, 1);
      };
      auto once = run({}, true);
      std::vector<int> tail; // decode the last tokens one by one
      for (int i = n - 30; i < n; ++i)
        tail.push_back(i);
      for (auto& cuts : std::vector<std::vector<int>>{
               {}, {512, 1024}, {1, 2, 3, 67, 700}, tail}) {
        for (bool alone : {true, false}) {
          EXPECT_TRUE(mx::array_equal(run(cuts, alone), once).item<bool>())
              << "window " << window << ", " << cuts.size() << " cuts";
        }
      }
      // And it is the right result.
      auto rounded = [&](const mx::array& x) {
        return mx::astype(mx::astype(x, type), mx::float32);
      };
      auto want = kernels::reference::attention(
          in.q,
          rounded(in.k),
          rounded(in.v),
          {0.125f, 0, window},
          std::nullopt,
          0,
          0);
      EXPECT_LT(mx::max(mx::abs(once - want)).item<float>(), 1e-5f);
    }
  }
}

TEST(BatchInvariance, LatentRows) {
  auto make = [] { return make_memory({LatentKv{40, 8}}, {}); };
  int n = 600;
  auto q = Inputs::random({1, n, 7, 48}, 1),
       row = Inputs::random({1, n, 48}, 2);
  auto run = [&](std::vector<int> cuts) {
    auto memory = make();
    auto s = memory->sequence();
    std::vector<mx::array> parts;
    int first = 0;
    cuts.push_back(n);
    for (int last : cuts) {
      s->begin(last - first);
      Step step({{s.get(), 0, last - first, first}});
      parts.push_back(memory->layer(0).attend_latent(
          step,
          Inputs::part(q, first, last),
          mx::slice(row, {0, first, 0}, {1, last, 48}),
          {.scale = 0.2f}));
      s->commit(last - first);
      first = last;
    }
    return mx::concatenate(parts, 1);
  };
  EXPECT_TRUE(mx::array_equal(run({}), run({1, 300, 301, 599})).item<bool>());
}

} // namespace
} // namespace mlxlm

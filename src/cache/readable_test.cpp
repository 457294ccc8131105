// Latent rows read without attention.
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "cache/memory.h"
#include "runtime/kernels/attention/reference.h"

namespace mlxlm {
namespace {

mx::array random(mx::Shape shape, int seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed));
}

// What is read without attention is what attention sees, packed or not; exact
// rows are never packed.
TEST(ReadableMemory, KeptRowsAreThoseAttendedTo) {
  using kernels::RowCodec;
  int n = 11;
  auto row = random({1, n, 40}, 3), q = random({1, 1, 3, 40}, 4);
  auto part = [&](int first, int last) {
    return mx::slice(row, {0, first, 0}, {1, last, 40});
  };
  for (bool arrays : {false, true}) {
    for (bool exact : {false, true}) {
      for (auto kind : {RowCodec::Kind::affine, RowCodec::Kind::turbo}) {
        RowCodec codec{kind, 4, 32};
        auto memory = make_memory(
            {LatentKv{32, 8, true, exact}},
            {.dtype = mx::float32,
             .page_tokens = 4,
             .arrays = arrays,
             .storage = {.keys = codec, .values = codec, .start = 5}});
        auto s = memory->sequence();
        auto& layer = memory->layer(0);
        auto pass = [&](int first, int last) {
          s->begin(last - first);
          Step step({{s.get(), 0, last - first, first}});
          auto done = layer.keep(step, part(first, last));
          auto kept = layer.kept(step, 0);
          mx::eval(done, kept);
          s->commit(last - first);
          return kept;
        };
        pass(0, 5);
        pass(5, n - 1);
        s->begin(1);
        Step step({{s.get(), 0, 1, n - 1}});
        auto out =
            layer.attend_latent(step, q, part(n - 1, n), {.scale = 0.3f});
        mx::eval(out);
        auto kept = layer.kept(step, 0);
        mx::eval(kept);
        ASSERT_EQ(kept.shape(), (mx::Shape{n, 40}));
        auto off = mx::max(mx::abs(kept - mx::squeeze(row, 0))).item<float>();
        EXPECT_LT(off, exact ? 1e-6f : 1.0f);
        EXPECT_EQ(off > 1e-3f, !exact);
        auto k = mx::reshape(kept, {1, n, 1, 40});
        auto want = kernels::reference::attention(
            q,
            k,
            mx::slice(k, {0, 0, 0, 0}, {1, n, 1, 32}),
            {0.3f},
            std::nullopt,
            n - 1,
            0);
        EXPECT_LT(mx::max(mx::abs(out - want)).item<float>(), 1e-4f);
      }
    }
  }
}

} // namespace
} // namespace mlxlm

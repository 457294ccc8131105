// Centers of TurboQuant keys follow from content alone, and they take what keys
// share.
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <cmath>

#include "cache/memory.h"
#include "cache/storage.h"
#include "runtime/kernels/attention/centered_keys.h"
#include "runtime/kernels/attention/key_stretch.h"

namespace mlxlm {
namespace {

constexpr int kv_heads = 2, heads = 6, k_dim = 40, v_dim = 24;

struct Drawn {
  mx::array q, k, v;

  Drawn(int n, int seed)
      : q(random({1, n, heads, k_dim}, seed)),
        k(random({1, n, kv_heads, k_dim}, seed + 1)),
        v(random({1, n, kv_heads, v_dim}, seed + 2)) {}

  static mx::array random(mx::Shape shape, int seed) {
    return mx::random::normal(shape, mx::float32, mx::random::key(seed));
  }
};

mx::array part(const mx::array& x, int first, int last) {
  return mx::slice(x, {0, first, 0, 0}, {1, last, x.shape(2), x.shape(3)});
}

// What tokens [first, last) of `in` get, in a pass behind another sequence's.
mx::array attend(
    Memory& memory,
    SequenceMemory& s,
    const Drawn& in,
    int first,
    int last,
    const Drawn* beside = nullptr) {
  auto other = memory.sequence();
  std::vector<Segment> segments;
  std::vector<mx::array> q, k, v;
  int before = 0, n = last - first;
  if (beside) {
    before = beside->q.shape(1);
    other->begin(before);
    segments.push_back({other.get(), 0, before, 0});
    q = {beside->q}, k = {beside->k}, v = {beside->v};
  }
  q.push_back(part(in.q, first, last));
  k.push_back(part(in.k, first, last));
  v.push_back(part(in.v, first, last));
  s.begin(n);
  segments.push_back({&s, before, n, s.length()});
  auto out = memory.layer(0).attend(
      Step(segments),
      mx::concatenate(q, 1),
      mx::concatenate(k, 1),
      mx::concatenate(v, 1),
      {.scale = 0.125f});
  out = part(out, before, before + n);
  out.eval();
  return out;
}

// How a sequence comes to its tokens.
struct Way {
  std::vector<int> cuts; // of its passes
  bool beside = false; // another sequence in every pass
  bool forks = false; // after every pass
  int tried = 0; // tokens begun before every pass, and taken back
};

mx::array go(Memory& memory, const Drawn& in, const Drawn& other, Way way) {
  int n = in.q.shape(1), first = 0;
  auto s = memory.sequence();
  std::vector<mx::array> parts;
  way.cuts.push_back(n);
  for (int last : way.cuts) {
    if (way.tried > 0) {
      attend(memory, *s, other, 0, way.tried);
      if (first % 2 == 0) {
        s->rollback();
      } else {
        s->commit(way.tried);
        EXPECT_EQ(s->trim(first), first);
      }
    }
    parts.push_back(
        attend(memory, *s, in, first, last, way.beside ? &other : nullptr));
    s->commit(last - first);
    if (way.forks) s = s->fork();
    first = last;
  }
  return mx::concatenate(parts, 1);
}

TEST(KeyCenters, FollowFromContent) {
  int n = 420;
  Drawn in(n, 1), other(70, 9);
  in.k = in.k + mx::array(3.0f);
  std::vector<int> ones;
  for (int i = 1; i < n; ++i)
    ones.push_back(i);
  std::vector<Way> ways{
      {{64, 128, 256}, true},
      {{1, 15, 67, 200, 391}, true, true},
      {{1, 63, 64, 65, 79, 128, 301}, false, true, 30},
      {ones}};
  for (int window : {0, 100}) {
    for (int plain_tokens : {0, 4}) {
      CacheSpec spec = FullKv{kv_heads, k_dim, v_dim};
      if (window > 0) spec = SlidingKv{kv_heads, k_dim, window, v_dim};
      auto storage = kv_storage("turbo4v3");
      storage.plain_tokens = plain_tokens;
      auto memory = make_memory({spec}, {.storage = storage});
      auto once = go(*memory, in, other, {});
      for (std::size_t i = 0; i < ways.size(); ++i) {
        auto same = mx::array_equal(go(*memory, in, other, ways[i]), once);
        EXPECT_TRUE(same.item<bool>()) << "way " << i << ", window " << window
                                       << ", plain " << plain_tokens;
      }
    }
  }
}

TEST(KeyCenters, TakeWhatKeysShare) {
  int n = 300, settled = 128;
  Drawn in(n, 3);
  auto keys = kv_storage("turbo4");
  keys.values = {};
  auto offset = Drawn::random({1, 1, kv_heads, k_dim}, 7) * mx::array(10.0f);
  auto run = [&](bool shifted, const KvStorage& storage, bool arrays) {
    auto memory = make_memory(
        {FullKv{kv_heads, k_dim, v_dim}},
        {.dtype = mx::float32, .arrays = arrays, .storage = storage});
    auto mine = in;
    if (shifted) mine.k = in.k + offset;
    return part(go(*memory, mine, mine, {}), settled, n);
  };
  for (bool arrays : {false, true}) {
    auto off = [&](bool shifted) {
      auto x = run(shifted, keys, arrays) - run(shifted, {}, arrays);
      return mx::sqrt(mx::mean(mx::square(x))).item<float>();
    };
    EXPECT_GT(off(false), 0);
    // Ten times as much without centers; the first few keys still are so.
    EXPECT_LT(off(true), 4 * off(false));
  }
}

TEST(KeyCenters, StretchesWhatQueriesWeigh) {
  int n = 300, window = 100, settled = 192; // behind the first page
  auto keys = kv_storage("turbo4");
  keys.values = {};
  auto halves = [](float a, float b) {
    auto part = [](float x) { return mx::full({k_dim / 2}, x); };
    return mx::concatenate({part(a), part(b)});
  };
  // Each half of the dimensions gives as much to a score as the other.
  auto run = [&](bool uneven, const KvStorage& storage, bool arrays) {
    auto memory = make_memory(
        {SlidingKv{kv_heads, k_dim, window, v_dim}},
        {.dtype = mx::float32, .arrays = arrays, .storage = storage});
    Drawn in(n, 3);
    in.q = in.q * (uneven ? halves(3.0f, 0.3f) : halves(0.3f, 0.3f));
    in.k = in.k * (uneven ? halves(0.1f, 1.0f) : halves(1.0f, 1.0f));
    return part(go(*memory, in, in, {}), settled, n);
  };
  for (bool arrays : {false, true}) {
    auto off = [&](bool uneven) {
      auto x = run(uneven, keys, arrays) - run(uneven, {}, arrays);
      return mx::sqrt(mx::mean(mx::square(x))).item<float>();
    };
    // Five times as much without.
    EXPECT_LT(off(true), 1.5f * off(false));
  }
}

TEST(KeyCenters, OfPagesPackedLaterAreThoseOfPagesPackedAtOnce) {
  int n = 420, start = 200, packed = 300;
  Drawn in(n, 5);
  for (bool arrays : {false, true}) {
    auto run = [&](int tokens) {
      auto storage = kv_storage("turbo4");
      storage.start = tokens;
      auto memory = make_memory(
          {FullKv{kv_heads, k_dim, v_dim}},
          {.dtype = mx::float32, .arrays = arrays, .storage = storage});
      Way way{{150, packed}};
      way.forks = true;
      return part(go(*memory, in, in, way), packed, n);
    };
    auto at_once = run(0), later = run(start);
    // Products of as many rows as there are may be rounded as they like.
    auto same = arrays ? mx::allclose(later, at_once, 1e-4, 1e-5)
                       : mx::array_equal(later, at_once);
    EXPECT_TRUE(same.item<bool>());
  }
}

TEST(KeyStretch, MovesAsThePlainOperationsSay) {
  int dim = 48;
  auto draw = [&](int seed) {
    auto x = Drawn::random({dim}, seed) * Drawn::random({dim}, seed + 1);
    return mx::contiguous(mx::square(x));
  };
  std::vector<std::int8_t> steps(dim);
  mx::array expected = mx::zeros({dim}, mx::int8);
  for (int i = 0; i < 5; ++i) {
    auto q = draw(2 * i), k = draw(2 * i + 20);
    auto next = kernels::reference::moved_stretch(q, k, expected);
    expected = mx::astype(next, mx::int8);
    mx::eval(q, k, expected);
    kernels::move_stretch(q.data<float>(), k.data<float>(), dim, steps.data());
    std::vector<int> got(steps.begin(), steps.end());
    auto* want = expected.data<std::int8_t>();
    EXPECT_EQ(got, std::vector<int>(want, want + dim)) << i;
    EXPECT_NE(got, std::vector<int>(dim));
    std::vector<float> by(dim), back(dim);
    kernels::stretch_factors(steps.data(), dim, by.data());
    kernels::shrink_factors(steps.data(), dim, back.data());
    auto factors = kernels::reference::stretch_factors(expected);
    factors.eval();
    for (int d = 0; d < dim; ++d) {
      EXPECT_NEAR(by[d] * back[d], 1, 1e-6f);
      EXPECT_NEAR(by[d] / factors.data<float>()[d], 1, 1e-6f);
    }
  }
  // What is no number stretches nothing.
  std::vector<float> none(dim, NAN), some(dim, 1.0f);
  std::vector<std::int8_t> zero(dim);
  kernels::move_stretch(none.data(), some.data(), dim, zero.data());
  EXPECT_EQ(zero, std::vector<std::int8_t>(dim));
}

} // namespace
} // namespace mlxlm

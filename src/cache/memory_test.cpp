// Random scripts of begin, commit, rollback, trim, fork and attend for every
// cache kind against an oracle that keeps every row of every token.
#include "cache/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <cmath>
#include <random>

#include "cache/attention_oracle.h"
#include "cache/key_center_oracle.h"
#include "cache/parts.h"
#include "mlxlm/error.h"
#include "runtime/kernels/attention/reference.h"
#include "runtime/kernels/attention/row_coder.h"

namespace mlxlm {
namespace {

using testing::AttentionOracle;
using testing::Floats;
using testing::LayerShape;
using testing::queries_per_head;
using testing::Rows;

// What the layers of one spec list look like to the oracle; -1: borrows from.
struct Kind {
  const char* name;
  std::vector<CacheSpec> specs;
  std::vector<LayerShape> shapes;
  float softcap = 0;
  bool sinks = false;
};

mx::array to_array(const Floats& x, mx::Shape shape) {
  return mx::array(x.data(), std::move(shape), mx::float32);
}

// Rows through the plain MLX codec of a packed page.
Floats packed(
    const kernels::RowCodec& codec,
    const mx::array& x,
    int begin,
    int dim,
    std::uint32_t seed) {
  kernels::reference::RowCoder coder(codec, dim, mx::float32, seed);
  auto part =
      mx::slice(x, {0, 0, 0, begin}, {1, x.shape(1), x.shape(2), begin + dim});
  auto y = mx::contiguous(coder.decode(coder.encode(part)));
  y.eval();
  return Floats(y.data<float>(), y.data<float>() + y.size());
}

struct OracleSequence {
  std::vector<Rows> layers;
  std::unique_ptr<SequenceMemory> memory;
  int length = 0;
  bool packs = false;
};

// How far TurboQuant's rounding the other way, as a processor's and a library's
// last bits fall, moves what comes out: a norm, which is a half; and now and
// then a code or a step of a stretch, which later pages follow from.
constexpr float another_norm = 4e-3f, another_code = 0.3f;

class Script {
 public:
  Script(const Kind& kind, const MemoryOptions& options, unsigned seed)
      : kind_(kind),
        options_(options),
        random_(seed),
        memory_(make_memory(kind.specs, options)) {
    add_sequence();
  }

  // Most that a result was from what it should be.
  float farthest() const {
    return farthest_;
  }

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i)
      act();
    sequences_.clear();
    EXPECT_EQ(memory_->bytes(), 0u);
  }

 private:
  int below(int n) {
    return std::uniform_int_distribution<int>(0, n - 1)(random_);
  }

  Floats numbers(int n) {
    std::normal_distribution<float> normal;
    Floats x(n);
    // Exact in f16 and bf16, so that the storage type does not matter; but the
    // codecs of packed pages are not to meet ties.
    bool exact = !options_.storage.packs();
    for (auto& value : x) {
      value = normal(random_);
      if (exact) value = std::round(value * 32) / 32;
    }
    return x;
  }

  void add_sequence() {
    auto& s = sequences_.emplace_back();
    s.memory = memory_->sequence();
    s.layers.resize(kind_.specs.size());
  }

  void act() {
    auto& s = sequences_[below(int(sequences_.size()))];
    switch (below(8)) {
      case 0:
        if (sequences_.size() < 4) return add_sequence();
        return void(sequences_.erase(
            sequences_.begin() + below(int(sequences_.size()) - 1)));
      case 1:
        return trim(s);
      case 2:
        return fork(s);
      default:
        return pass();
    }
  }

  void trim(OracleSequence& s) {
    int asked = below(s.length + 1);
    s.length = s.memory->trim(asked);
    EXPECT_LE(s.length, asked);
    EXPECT_EQ(s.length, s.memory->length());
    if (s.length == 0) s.packs = false;
    cut(s);
  }

  void fork(OracleSequence& s) {
    if (sequences_.size() >= 5) return;
    OracleSequence copy{
        s.layers,
        below(2) ? s.memory->fork() : put_together(s),
        s.length,
        s.packs};
    sequences_.push_back(std::move(copy));
  }

  // From the other's parts.
  std::unique_ptr<SequenceMemory> put_together(OracleSequence& s) {
    // Short of `start` it would not go on packed.
    bool packs_on = !s.packs || s.length >= options_.storage.start;
    if (s.length == 0 || !packs_on) return s.memory->fork();
    auto pages = kept_pages(*s.memory, s.length);
    s.memory->mark();
    auto states = kept_states(*s.memory);
    if (below(2)) share_pages(*s.memory, pages);
    return sequence_from(
        *memory_,
        pages,
        s.length,
        states.empty() ? nullptr : states.back().second);
  }

  void cut(OracleSequence& s) {
    for (std::size_t i = 0; i < s.layers.size(); ++i) {
      auto& shape = kind_.shapes[i];
      auto& rows = s.layers[i];
      auto keys = s.length * shape.kv_heads * shape.k_dim;
      auto values = s.length * shape.kv_heads * shape.v_dim;
      rows.k.resize(keys);
      if (!shape.latent) rows.v.resize(values);
      if (!options_.storage.packs()) continue;
      rows.packed_k.resize(keys);
      if (!shape.latent) rows.energy.resize(keys);
      if (!shape.latent) rows.packed_v.resize(values);
    }
  }

  // One forward pass over some of the sequences, then commit or roll back.
  void pass() {
    std::vector<Segment> segments;
    std::vector<int> members;
    int tokens = 0;
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      if (below(3) == 0) continue;
      int count = below(2) ? 1 : 1 + below(11);
      auto& s = sequences_[i];
      auto& storage = options_.storage;
      if (storage.packs() && s.length >= storage.start) s.packs = true;
      s.memory->begin(count);
      segments.push_back({s.memory.get(), tokens, count, s.length});
      members.push_back(int(i));
      tokens += count;
    }
    if (segments.empty()) return;
    Step step(segments);
    for (int i = 0; i < memory_->layers(); ++i)
      layer(i, step, members);
    for (std::size_t i = 0; i < members.size(); ++i) {
      auto& s = sequences_[members[i]];
      int count = segments[i].count;
      if (below(4) == 0) {
        s.memory->rollback();
      } else {
        int keep = below(3) ? count : below(count + 1);
        s.memory->commit(keep);
        s.length += keep;
      }
      EXPECT_EQ(s.memory->length(), s.length);
      cut(s);
    }
  }

  void append(
      OracleSequence& s,
      int i,
      const Segment& g,
      const Floats& k,
      const Floats& v,
      const Floats& energy,
      const Rows& coded) {
    auto& shape = kind_.shapes[i];
    auto add = [&](Floats& to, const Floats& from, int row) {
      auto start = from.begin() + g.first * row;
      to.insert(to.end(), start, start + g.count * row);
    };
    add(s.layers[i].k, k, shape.kv_heads * shape.k_dim);
    if (!shape.latent) add(s.layers[i].v, v, shape.kv_heads * shape.v_dim);
    if (!options_.storage.packs()) return;
    add(s.layers[i].packed_k, coded.k, shape.kv_heads * shape.k_dim);
    if (shape.latent) return;
    add(s.layers[i].energy, energy, shape.kv_heads * shape.k_dim);
    if (options_.storage.keys.kind == kernels::RowCodec::Kind::turbo) {
      testing::CenteredKeys centered(
          options_.storage, options_.page_tokens, shape.kv_heads, shape.k_dim);
      s.layers[i].packed_k = centered(s.layers[i].k, s.layers[i].energy);
    }
    add(s.layers[i].packed_v, coded.v, shape.kv_heads * shape.v_dim);
  }

  // Mean squares of queries [N, H, k_dim] that share a key head.
  static Floats energy_of(const Floats& q, const LayerShape& shape) {
    auto dim = std::size_t(shape.k_dim), group = dim * queries_per_head;
    Floats out(q.size() / queries_per_head);
    for (std::size_t i = 0; i < q.size(); ++i)
      out[i / group * dim + i % dim] += q[i] * q[i] / queries_per_head;
    return out;
  }

  // k and v as layer i packs them.
  Rows coded(int i, const mx::array& k, const mx::array& v) const {
    auto& shape = kind_.shapes[i];
    auto& storage = options_.storage;
    using kernels::reference::key_seed;
    using kernels::reference::value_seed;
    if (!shape.latent) {
      return {
          packed(storage.keys, k, 0, shape.k_dim, key_seed),
          packed(storage.values, v, 0, shape.v_dim, value_seed)};
    }
    int rest = shape.k_dim - shape.v_dim, n = k.shape(1);
    auto front = packed(storage.keys, k, 0, shape.v_dim, key_seed);
    auto back = packed(storage.keys, k, shape.v_dim, rest, key_seed);
    Rows out;
    for (int t = 0; t < n; ++t) {
      auto a = front.begin() + t * shape.v_dim, b = back.begin() + t * rest;
      out.k.insert(out.k.end(), a, a + shape.v_dim);
      out.k.insert(out.k.end(), b, b + rest);
    }
    return out;
  }

  // The rows as they are stored now.
  Rows stored(const OracleSequence& s, int i) const {
    if (!s.packs) return s.layers[i];
    auto& shape = kind_.shapes[i];
    auto& rows = s.layers[i];
    int page = options_.page_tokens;
    auto plain = (options_.storage.plain_tokens + page - 1) / page * page;
    auto mixed = [&](const Floats& a, const Floats& b, int dim) {
      auto first =
          std::min(a.size(), std::size_t(plain * shape.kv_heads * dim));
      Floats out(a.begin(), a.begin() + std::ptrdiff_t(first));
      out.insert(out.end(), b.begin() + std::ptrdiff_t(first), b.end());
      return out;
    };
    return {
        mixed(rows.k, rows.packed_k, shape.k_dim),
        mixed(rows.v, rows.packed_v, shape.v_dim)};
  }

  void layer(int i, const Step& step, const std::vector<int>& members) {
    auto& shape = kind_.shapes[i];
    int n = step.tokens, hkv = shape.kv_heads, heads = hkv * queries_per_head;
    auto q = numbers(n * heads * shape.k_dim);
    auto k = numbers(n * hkv * shape.k_dim), v = numbers(n * hkv * shape.v_dim);
    auto sinks = kind_.sinks ? numbers(heads) : Floats{};
    AttendOptions options{.scale = 0.3f, .softcap = kind_.softcap};
    if (kind_.sinks) options.sinks = to_array(sinks, {heads});
    auto qa = to_array(q, {1, n, heads, shape.k_dim});
    auto ka = to_array(k, {1, n, hkv, shape.k_dim});
    auto va = to_array(v, {1, n, hkv, shape.v_dim});
    auto* shared = std::get_if<SharedKv>(&kind_.specs[i]);
    auto& cache = memory_->layer(i);
    auto out = shared ? cache.attend(step, qa, options)
        : shape.latent
        ? cache.attend_latent(step, qa, mx::squeeze(ka, 2), options)
        : cache.attend(step, qa, ka, va, options);
    out = mx::contiguous(out);
    ASSERT_EQ(out.shape(), (mx::Shape{1, n, heads, shape.v_dim}));
    // Now and then leave a pass unevaluated: a later one must still see its
    // rows.
    bool look = below(4) != 0;
    if (look) mx::eval(out);
    AttentionOracle oracle(shape, options, sinks);
    Rows packed_rows;
    if (options_.storage.packs() && !shared) packed_rows = coded(i, ka, va);
    bool turbo = options_.storage.values.kind == kernels::RowCodec::Kind::turbo;
    float tolerance = turbo ? another_code : 4e-5f;
    for (std::size_t m = 0; m < members.size(); ++m) {
      auto& s = sequences_[members[m]];
      auto& g = step.segments()[m];
      if (shared) {
        s.layers[i] = s.layers[shared->source];
      } else {
        append(s, i, g, k, v, energy_of(q, shape), packed_rows);
      }
      auto rows = stored(s, i);
      auto& own = turbo && !shared && !shape.latent ? s.layers[i] : rows;
      for (int t = 0; look && t < g.count; ++t) {
        auto want = oracle.attend(
            rows, own, &q[(g.first + t) * heads * shape.k_dim], g.offset, t);
        auto* got = out.data<float>() + (g.first + t) * heads * shape.v_dim;
        for (std::size_t d = 0; d < want.size(); ++d) {
          ASSERT_NEAR(got[d], want[d], tolerance)
              << kind_.name << " layer " << i << " token " << g.offset + t;
          farthest_ = std::max(farthest_, std::abs(got[d] - want[d]));
        }
      }
    }
  }

  const Kind& kind_;
  MemoryOptions options_;
  float farthest_ = 0;
  std::mt19937 random_;
  std::unique_ptr<Memory> memory_;
  std::vector<OracleSequence> sequences_;
};

std::vector<Kind> kinds() {
  return {
      {"full",
       {FullKv{2, 20}, FullKv{2, 20}},
       {{2, 20, 20, 0}, {2, 20, 20, 0}}},
      {"uneven", {FullKv{1, 16, 24}}, {{1, 16, 24, 0}}, 2.5f},
      {"sliding", {SlidingKv{2, 16, 6}}, {{2, 16, 16, 6}}, 0, true},
      {"chunked",
       {SlidingKv{2, 16, 6, 0, true}},
       {{2, 16, 16, 6, false, true}}},
      {"keeps",
       {SlidingKv{2, 16, 9, 0, false, 3}},
       {{2, 16, 16, 9, false, false, 3}}},
      {"window of one", {SlidingKv{1, 8, 1}}, {{1, 8, 8, 1}}},
      {"latent", {LatentKv{24, 8}}, {{1, 32, 24, 0, true}}},
      {"mixed",
       {FullKv{1, 8}, SlidingKv{1, 8, 9}, SharedKv{0}, SharedKv{1}},
       {{1, 8, 8, 0}, {1, 8, 8, 9}, {1, 8, 8, 0}, {1, 8, 8, 9}},
       0,
       true},
  };
}

class MemoryScripts : public ::testing::TestWithParam<unsigned> {};

TEST_P(MemoryScripts, AgreeWithOracle) {
  auto seed = GetParam();
  std::vector<MemoryOptions> runs{
      {.dtype = mx::float32, .page_tokens = 4},
      {.dtype = mx::float16, .page_tokens = 4},
      {.dtype = mx::bfloat16, .page_tokens = 3},
      {.dtype = mx::float16, .page_tokens = 16},
      {.dtype = mx::float16, .page_tokens = 4, .arrays = true},
  };
  for (auto& kind : kinds()) {
    for (auto& options : runs) {
      Script(kind, options, seed += 100).run(40);
      if (HasFailure()) return;
    }
  }
}

TEST_P(MemoryScripts, PackedPagesAgreeWithThePlainCodecs) {
  using kernels::RowCodec;
  constexpr auto affine = RowCodec::Kind::affine, turbo = RowCodec::Kind::turbo;
  std::vector<KvStorage> storages{
      {.keys = {affine, 8}, .values = {affine, 4, 32}},
      {.keys = {affine, 6, 32}, .values = {affine, 5}, .start = 7},
      {.keys = {affine, 3}, .values = {affine, 2}, .plain_tokens = 4},
      {.keys = {turbo, 4}, .values = {turbo, 3}, .plain_tokens = 3},
      {.keys = {affine, 8}, .values = {turbo, 2}, .start = 5},
      {.keys = {}, .values = {turbo, 4}},
      {.keys = {turbo, 3, 64, true}, .values = {turbo, 4}},
  };
  auto seed = GetParam();
  int scripts = 0, other_codes = 0;
  for (auto& kind : kinds()) {
    for (auto storage : storages) {
      bool latent = kind.shapes[0].latent;
      if (latent && storage.keys.sketch) continue;
      if (latent) storage.values = storage.keys;
      if (!storage.packs()) continue;
      for (bool arrays : {false, true}) {
        MemoryOptions options{
            .dtype = mx::float32,
            .page_tokens = 4,
            .arrays = arrays,
            .storage = storage};
        Script script(kind, options, seed += 100);
        script.run(arrays ? 12 : 30);
        if (HasFailure()) return;
        ++scripts;
        other_codes += script.farthest() > another_norm;
      }
    }
  }
  EXPECT_LE(other_codes, scripts / 20);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MemoryScripts, ::testing::Range(1u, 7u));

} // namespace
} // namespace mlxlm

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

#include "cache/key_center_oracle.h"
#include "cache/parts.h"
#include "mlxlm/error.h"
#include "runtime/kernels/attention/reference.h"
#include "runtime/kernels/attention/row_coder.h"

namespace mlxlm {
namespace {

using Floats = std::vector<float>;

struct LayerShape {
  int kv_heads, k_dim, v_dim, window; // window 0: none
  bool latent = false;
  bool chunked = false;
  int keep = 0;
};

// What the layers of one spec list look like to the oracle; -1: borrows from.
struct Kind {
  const char* name;
  std::vector<CacheSpec> specs;
  std::vector<LayerShape> shapes;
  float softcap = 0;
  bool sinks = false;
};

constexpr int queries_per_head = 3;

mx::array to_array(const Floats& x, mx::Shape shape) {
  return mx::array(x.data(), std::move(shape), mx::float32);
}

// Rows one sequence has stored in one layer, token after token, and what they
// are once packed.
struct Rows {
  Floats k, v;
  Floats packed_k = {}, packed_v = {};
  Floats energy = {}; // of queries, as keys; see key_center_oracle.h
};

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

class Oracle {
 public:
  Oracle(const LayerShape& shape, const AttendOptions& options, Floats sinks)
      : shape_(shape), options_(options), sinks_(std::move(sinks)) {}

  // q: [H, k_dim] of token `index` of a segment at `offset`, which `rows`
  // already hold; own: the same, of which the token sees its own.
  Floats attend(
      const Rows& rows,
      const Rows& own,
      const float* q,
      int offset,
      int index) const {
    Floats out;
    for (int h = 0; h < shape_.kv_heads * queries_per_head; ++h) {
      auto head = one_head(rows, own, q + h * shape_.k_dim, offset, index, h);
      out.insert(out.end(), head.begin(), head.end());
    }
    return out;
  }

 private:
  // The tokens one sees: the window's, or as a rotating cache of `window` slots
  // shows them, the first `keep` never overwritten.
  std::vector<int> seen(int offset, int index) const {
    std::vector<int> slots;
    int position = offset + index;
    if (shape_.chunked) {
      for (int j = position - position % shape_.window; j <= position; ++j)
        slots.push_back(j);
      return slots;
    }
    int window = shape_.window ? shape_.window : offset + index + 1;
    for (int j = 0; j < offset; ++j) {
      if (j < shape_.keep || j > offset - (window - shape_.keep)) {
        slots.push_back(j);
      }
    }
    for (int i = 0; i <= index; ++i)
      slots.push_back(offset + i);
    int extra = std::max(0, int(slots.size()) - window);
    return {slots.begin() + extra, slots.end()};
  }

  Floats one_head(
      const Rows& rows,
      const Rows& own,
      const float* q,
      int offset,
      int index,
      int h) const {
    auto tokens = seen(offset, index);
    int kv = h / queries_per_head;
    std::vector<double> scores;
    auto of = [&](int j) -> auto& { return j == offset + index ? own : rows; };
    for (int j : tokens) {
      auto* k = &of(j).k[(j * shape_.kv_heads + kv) * shape_.k_dim];
      double s = 0;
      for (int d = 0; d < shape_.k_dim; ++d)
        s += double(q[d]) * k[d];
      s *= options_.scale;
      if (options_.softcap > 0) {
        s = options_.softcap * std::tanh(s / options_.softcap);
      }
      scores.push_back(s);
    }
    double total = sinks_.empty() ? 0 : std::exp(double(sinks_[h]));
    for (auto& s : scores)
      total += s = std::exp(s);
    Floats out(shape_.v_dim);
    for (int d = 0; d < shape_.v_dim; ++d) {
      double sum = 0;
      for (std::size_t j = 0; j < tokens.size(); ++j)
        sum += scores[j] * value(of(tokens[j]), tokens[j], kv, d);
      out[d] = float(sum / total);
    }
    return out;
  }

  float value(const Rows& rows, int j, int kv, int d) const {
    if (shape_.latent) return rows.k[j * shape_.k_dim + d];
    return rows.v[(j * shape_.kv_heads + kv) * shape_.v_dim + d];
  }

  LayerShape shape_;
  AttendOptions options_;
  Floats sinks_;
};

class Script {
 public:
  Script(const Kind& kind, const MemoryOptions& options, unsigned seed)
      : kind_(kind),
        options_(options),
        random_(seed),
        memory_(make_memory(kind.specs, options)) {
    add_sequence();
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
      if (storage.packs() && s.length >= storage.start && !s.packs) {
        s.packs = true;
        for (auto& rows : s.layers)
          rows.energy.assign(rows.energy.size(), NAN);
      }
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
    Oracle oracle(shape, options, sinks);
    Rows packed_rows;
    if (options_.storage.packs() && !shared) packed_rows = coded(i, ka, va);
    bool turbo = options_.storage.values.kind == kernels::RowCodec::Kind::turbo;
    // Norms are halves: rounded the other way now and then.
    float tolerance = turbo ? 4e-3f : 4e-5f;
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
        }
      }
    }
  }

  const Kind& kind_;
  MemoryOptions options_;
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
        Script(kind, options, seed += 100).run(arrays ? 12 : 30);
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, MemoryScripts, ::testing::Range(1u, 7u));

// ---- batch invariance -------------------------------------------------------

struct Inputs {
  mx::array q, k, v;

  Inputs(int n, const LayerShape& s, int seed)
      : q(random({1, n, s.kv_heads * queries_per_head, s.k_dim}, seed)),
        k(random({1, n, s.kv_heads, s.k_dim}, seed + 1)),
        v(random({1, n, s.kv_heads, s.v_dim}, seed + 2)) {}

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
    LayerShape shape{2, 40, 24, window};
    CacheSpec spec = FullKv{2, 40, 24};
    if (window) spec = SlidingKv{2, 40, window, 24};
    for (auto type : {mx::float16, mx::float32}) {
      Inputs in(n, shape, 1), beside(70, shape, 9);
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

TEST(Memory, HalfPrecisionValuesSaturate) {
  auto memory = make_memory({FullKv{1, 8}}, {.dtype = mx::float16});
  auto s = memory->sequence();
  s->begin(2);
  Step step({{s.get(), 0, 2, 0}});
  auto x = mx::full({1, 2, 1, 8}, 1e6f, mx::float32);
  auto out = memory->layer(0).attend(step, mx::zeros_like(x), x, x, {});
  EXPECT_EQ(mx::max(out).item<float>(), 65504.f);
}

// ---- recurrent --------------------------------------------------------------

float state_of(Memory& memory, SequenceMemory& s) {
  Segment segment{&s, 0, 1, s.length()};
  auto state = memory.layer(0).state(segment, 0);
  mx::eval(state);
  return state.data<float>()[0];
}

// The state counts the tokens seen.
void run_recurrent(Memory& memory, SequenceMemory& s, int tokens) {
  Segment segment{&s, 0, tokens, s.length()};
  auto state = memory.layer(0).state(segment, 0);
  memory.layer(0).set_state(segment, 0, state + mx::array(float(tokens)));
}

TEST(RecurrentMemory, StatesFollowTransactions) {
  Recurrent spec{{{{2, 3}, mx::float32}}};
  auto memory = make_memory({spec}, {.page_tokens = 4});
  EXPECT_FALSE(memory->partial_commit());
  auto s = memory->sequence();
  auto advance = [&](int n) {
    s->begin(n);
    run_recurrent(*memory, *s, n);
    s->commit(n);
  };
  advance(3);
  s->begin(5);
  run_recurrent(*memory, *s, 5);
  s->rollback();
  EXPECT_EQ(state_of(*memory, *s), 3);
  advance(5); // 8: a boundary, remembered
  advance(2);
  auto other = s->fork();
  EXPECT_EQ(s->trim(9), 8);
  EXPECT_EQ(state_of(*memory, *s), 8);
  EXPECT_EQ(state_of(*memory, *other), 10);
  EXPECT_EQ(s->trim(7), 0);
  EXPECT_EQ(state_of(*memory, *s), 0);
  advance(5);
  s->mark();
  advance(1);
  EXPECT_EQ(s->trim(5), 5);
  EXPECT_EQ(state_of(*memory, *s), 5);
  s.reset();
  other.reset();
  EXPECT_EQ(memory->bytes(), 0u);
}

// ---- accounting and refusals ------------------------------------------------

TEST(Memory, RefusedBeginChangesNothing) {
  // A page: 4 tokens x 2 layers x 2 x 8 values of 4 bytes.
  constexpr std::size_t page = 4 * 2 * 2 * 8 * 4;
  auto memory = make_memory(
      {FullKv{1, 8}, FullKv{1, 8}},
      {.dtype = mx::float32, .page_tokens = 4, .max_bytes = 3 * page});
  EXPECT_EQ(memory->bytes_per_token(), page / 4);
  EXPECT_EQ(memory->bytes_for(5), 2 * page);
  EXPECT_EQ(memory->max_tokens(), 12);
  auto a = memory->sequence(), b = memory->sequence();
  a->begin(7);
  a->commit(7);
  EXPECT_EQ(memory->bytes(), 2 * page);
  EXPECT_EQ(memory->max_tokens(), 4);
  try {
    b->begin(5);
    FAIL() << "expected a refusal";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::resource);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("1024 of 1536 bytes in use"));
  }
  EXPECT_EQ(memory->bytes(), 2 * page);
  EXPECT_EQ(b->length(), 0);
  b->begin(4);
  b->rollback();
  EXPECT_EQ(memory->bytes(), 2 * page);
  a->begin(1);
  a->commit(1);
  auto c = a->fork(); // shares both pages
  EXPECT_EQ(memory->bytes(), 2 * page);
  c->begin(1);
  c->commit(1);
  EXPECT_EQ(memory->bytes(), 3 * page);
  a.reset();
  EXPECT_EQ(memory->bytes(), 3 * page);
  c.reset();
  b.reset();
  EXPECT_EQ(memory->bytes(), 0u);
}

TEST(Memory, WindowsGivePagesBack) {
  auto memory = make_memory({SlidingKv{1, 8, 6}}, {.page_tokens = 4});
  auto s = memory->sequence();
  for (int i = 0; i < 50; ++i) {
    s->begin(7);
    s->commit(7);
  }
  EXPECT_LE(s->bytes(), memory->bytes_for(350)); // window, tail, one spare
  EXPECT_EQ(memory->bytes_for(350), memory->bytes_for(35000));
  EXPECT_EQ(s->trim(346), 346);
  EXPECT_EQ(s->trim(300), 0);
}

TEST(Memory, RefusesWrongCalls) {
  auto memory = make_memory({FullKv{2, 8}, std::monostate{}}, {});
  auto s = memory->sequence();
  s->begin(2);
  Step step({{s.get(), 0, 2, 0}});
  auto q = mx::zeros({1, 2, 4, 8}), k = mx::zeros({1, 2, 2, 8});
  auto& layer = memory->layer(0);
  EXPECT_THROW(layer.attend(step, q, q, q, {}), Error);
  EXPECT_THROW(layer.attend_latent(step, q, mx::squeeze(k, 0), {}), Error);
  EXPECT_THROW(layer.state(step.segments()[0], 0), Error);
  EXPECT_THROW(memory->layer(1).attend(step, q, k, k, {}), Error);
  EXPECT_THROW(memory->layer(2), Error);
  EXPECT_THROW(s->begin(1), Error);
  EXPECT_THROW(s->commit(3), Error);
  EXPECT_THROW(make_memory({SharedKv{0}}, {}), Error);
  EXPECT_THROW(Step({{s.get(), 1, 2, 0}}), Error);
  EXPECT_THROW(Step(std::vector<Segment>{}), Error);
}

TEST(Stateless, AgreesWithMemory) {
  std::vector<CacheSpec> specs{FullKv{2, 8}, SlidingKv{2, 8, 3}, SharedKv{1}};
  auto memory = make_memory(specs, {.dtype = mx::float32});
  auto stateless = make_stateless(specs);
  auto a = memory->sequence(), b = memory->sequence();
  a->begin(5);
  b->begin(4);
  Step with({{a.get(), 0, 5, 0}, {b.get(), 5, 4, 0}});
  Step without({{nullptr, 0, 5, 0}, {nullptr, 5, 4, 0}});
  auto q = mx::sin(mx::reshape(mx::arange(9 * 4 * 8), {1, 9, 4, 8}));
  auto k = mx::cos(mx::reshape(mx::arange(9 * 2 * 8), {1, 9, 2, 8}));
  auto v = mx::square(k);
  for (int i = 0; i < 3; ++i) {
    bool borrows = i == 2;
    auto run = [&](Memory& m, const Step& step) {
      auto& layer = m.layer(i);
      return borrows ? layer.attend(step, q, {})
                     : layer.attend(step, q, k, v, {});
    };
    auto same =
        mx::allclose(run(*memory, with), run(*stateless, without), 1e-5, 1e-6);
    EXPECT_TRUE(same.item<bool>()) << i;
  }
}

} // namespace
} // namespace mlxlm

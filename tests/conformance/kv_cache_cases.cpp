// kv_cache: scripts of updates, trims and filters. What attention sees is
// compared: random queries over the rows the reference fetched and did not
// mask, against the same queries through our memory.
#include <algorithm>
#include <cmath>
#include <random>

#include "cache/memory.h"
#include "conformance.h"
#include "core/json.h"
#include "golden.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

namespace mlxlm::conformance {
namespace {

using Floats = std::vector<float>;

// [batch, heads, tokens, dim], as the goldens have it.
struct Rows {
  int batch, heads, tokens, dim;
  Floats values;

  explicit Rows(const GoldenTensor& t)
      : batch(int(t.shape.at(0))),
        heads(int(t.shape.at(1))),
        tokens(int(t.shape.at(2))),
        dim(int(t.shape.at(3))),
        values(t.floats()) {}
  const float* row(int b, int h, int t) const {
    return &values[((std::size_t(b) * heads + h) * tokens + t) * dim];
  }
};

// One row of the reference's batch.
struct Member {
  std::unique_ptr<SequenceMemory> memory;
  int padding; // padding tokens still to come
};

class Script {
 public:
  explicit Script(const Case& c)
      : ops_(read_json(c.path("ops.json"))),
        arrays_(c.path("arrays.safetensors")) {
    Rows first(arrays_["in_k0"]);
    int max_size = c.json.opt("max_size", 0);
    int window = ops_.at(0).value("window_size", Json()).is_number()
        ? ops_.at(0).at("window_size").get<int>()
        : max_size;
    if (max_size > 0) window = std::min(window, max_size);
    CacheSpec spec = FullKv{first.heads, first.dim};
    if (window > 0) spec = SlidingKv{first.heads, first.dim, window};
    memory_ = make_memory({spec}, {.dtype = mx::float32, .page_tokens = 4});
    auto padding = c.json.opt("left_padding", std::vector<int>(first.batch, 0));
    for (int p : padding)
      members_.push_back({memory_->sequence(), p});
  }

  Outcome run() {
    for (int i = 0; i < int(ops_.size()); ++i) {
      auto& op = ops_.at(i);
      auto name = op.at("op").get<std::string>();
      if (name == "update") {
        update(i, op);
      } else if (name == "trim") {
        for (auto& m : members_) {
          int n = std::min(m.memory->length(), op.at("n").get<int>());
          int wanted = m.memory->length() - n;
          wrong_ += m.memory->trim(wanted) != wanted;
        }
      } else if (name == "filter") {
        std::vector<Member> kept;
        for (int b : op.at("keep").get<std::vector<int>>()) {
          kept.push_back(std::move(members_.at(b)));
        }
        members_ = std::move(kept);
      } else {
        return judge(false, "unknown operation " + name);
      }
    }
    bool ok = wrong_ == 0 && worst_ <= 1e-5;
    return judge(
        ok,
        fmt::format(
            "{} queries, {:.1e} of 1.0e-05{}",
            queries_,
            worst_,
            wrong_ ? ", a trim fell short" : ""));
  }

 private:
  void update(int i, const Json& op) {
    auto in = [&](const char* which) {
      return Rows(arrays_[fmt::format("{}{}", which, i)]);
    };
    Rows k = in("in_k"), v = in("in_v"), all_k = in("out_k"),
         all_v = in("out_v");
    std::vector<Segment> segments;
    std::vector<int> first; // token of each member's first in this update
    int tokens = 0;
    for (auto& m : members_) {
      int skip = std::min(m.padding, k.tokens);
      m.padding -= skip;
      first.push_back(skip);
      int count = k.tokens - skip;
      m.memory->begin(count);
      if (count > 0) {
        segments.push_back({m.memory.get(), tokens, count, m.memory->length()});
      }
      tokens += count;
    }
    auto q = random(std::size_t(tokens) * k.heads * k.dim);
    auto got = attend(Step(segments), q, packed(k, first), packed(v, first), k);
    std::size_t at = 0;
    for (std::size_t b = 0; b < members_.size(); ++b) {
      for (int t = first[b]; t < k.tokens; ++t) {
        for (int h = 0; h < k.heads; ++h, at += k.dim) {
          auto want =
              expected(op, int(b), h, t, &q[at], k.tokens, all_k, all_v);
          std::span<const float> mine(got.data() + at, k.dim);
          worst_ = std::max(worst_, max_abs(mine, want));
          ++queries_;
        }
      }
      members_[b].memory->commit(k.tokens - first[b]);
    }
  }

  Floats random(std::size_t n) {
    std::normal_distribution<float> normal(0, 2);
    Floats x(n);
    for (auto& value : x)
      value = normal(random_);
    return x;
  }

  // The members' tokens end to end, [tokens, heads, dim].
  static Floats packed(const Rows& x, const std::vector<int>& first) {
    Floats out;
    for (int b = 0; b < x.batch; ++b) {
      for (int t = first[b]; t < x.tokens; ++t) {
        for (int h = 0; h < x.heads; ++h) {
          auto* row = x.row(b, h, t);
          out.insert(out.end(), row, row + x.dim);
        }
      }
    }
    return out;
  }

  Floats attend(
      const Step& step,
      const Floats& q,
      const Floats& k,
      const Floats& v,
      const Rows& like) {
    mx::Shape shape{1, step.tokens, like.heads, like.dim};
    auto array = [&](const Floats& x) {
      return mx::array(x.data(), shape, mx::float32);
    };
    auto out = mx::contiguous(
        memory_->layer(0).attend(step, array(q), array(k), array(v), {}));
    mx::eval(out);
    return Floats(out.data<float>(), out.data<float>() + out.size());
  }

  // Whether the reference lets query `t` of `tokens` see fetched row `j` of
  // `rows`.
  bool allowed(const Json& op, int b, int t, int tokens, int j, int rows)
      const {
    auto name = op.value("mask", Json());
    if (!name.is_string()) return j <= rows - tokens + t;
    auto& mask = arrays_[name.get<std::string>()];
    auto keys = std::size_t(mask.shape.back());
    std::size_t queries = mask.shape.size() > 1 ? tokens : 1;
    bool batched = mask.shape.size() == 4;
    auto row = (batched ? b * queries : 0) + (queries > 1 ? t : 0);
    return mask.bytes[row * keys + j] != 0;
  }

  Floats expected(
      const Json& op,
      int b,
      int h,
      int t,
      const float* q,
      int tokens,
      const Rows& k,
      const Rows& v) const {
    std::vector<double> out(k.dim);
    double total = 0;
    for (int j = 0; j < k.tokens; ++j) {
      if (!allowed(op, b, t, tokens, j, k.tokens)) continue;
      double score = 0;
      for (int d = 0; d < k.dim; ++d)
        score += double(q[d]) * k.row(b, h, j)[d];
      double weight = std::exp(score);
      total += weight;
      for (int d = 0; d < k.dim; ++d)
        out[d] += weight * v.row(b, h, j)[d];
    }
    Floats result;
    for (double x : out)
      result.push_back(float(x / total));
    return result;
  }

  Json ops_;
  Golden arrays_;
  std::unique_ptr<Memory> memory_;
  std::vector<Member> members_;
  std::mt19937 random_{1};
  int queries_ = 0, wrong_ = 0;
  double worst_ = 0;
};

// What a case needs beyond the memory there is, as tests/not_built.txt calls
// it.
std::string_view needs(const Case& c) {
  auto starts = [&](std::string_view prefix) {
    return c.name.starts_with(prefix);
  };
  if (starts("prompt_cache")) return "prompt-cache-file";
  if (starts("batch_generation")) return "batch-generation-golden";
  if (starts("quantized") || starts("simple_to_quantized")) {
    return "quantized-kv";
  }
  if (c.json.opt("keep", 0) > 0) return "kept-prefix-kv";
  return {};
}

} // namespace

Outcome kv_cache_case(const Case& c) {
  auto block = needs(c);
  if (!block.empty()) {
    if (c.not_built && c.not_built->has("block", block)) {
      return skipped(fmt::format("not built: block {}", block));
    }
    return judge(false, fmt::format("needs {}", block));
  }
  return Script(c).run();
}

} // namespace mlxlm::conformance

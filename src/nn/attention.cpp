#include "nn/attention.h"

#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "nn/fused.h"

namespace mlxlm {

namespace {

class Attention : public Block {
 public:
  Attention(const Scope& s, const AttentionOptions& o)
      : o_(o),
        q_dim_(o.heads * o.head_dim * (o.gated_queries ? 2 : 1)),
        k_dim_(o.kv_heads * o.head_dim),
        v_dim_(o.kv_heads * o.v_dim),
        in_(inputs(s)),
        out_(s.linear(
            o.o,
            o.heads * o.v_dim,
            o.hidden,
            {.bias = o.out_bias, .split = Split::in, .units = o.heads})) {
    if (o.sinks) sinks_ = s.param("sinks", {o.heads});
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    int n = x.shape(1);
    auto qkv = linears(x, in_);
    if (o_.fused_by_group) qkv = by_group(qkv[0]);
    if (o_.clip > 0)
      for (auto& part : qkv)
        part = clipped(part);
    auto q = heads(qkv[0], o_.heads, q_dim_);
    std::optional<mx::array> gate;
    if (o_.gated_queries) {
      auto halves = mx::split(q, 2, -1);
      q = halves[0];
      gate = mx::reshape(halves[1], {1, n, o_.heads * o_.head_dim});
    }
    q = placed(q, o_.q_norm, step);
    if (o_.temperature != 0) {
      auto t = query_temperature(step, o_.temperature, o_.temperature_length);
      q = q * mx::astype(t, q.dtype());
    }
    auto k = placed(heads(qkv[1], o_.kv_heads, k_dim_), o_.k_norm, step);
    auto v = heads(qkv[2], o_.kv_heads, v_dim_);
    auto y = cache->attend(step, q, k, v, attend_options());
    y = mx::reshape(y, {1, n, o_.heads * o_.v_dim});
    if (gate) y = y * mx::sigmoid(*gate);
    return out_(y);
  }

  CacheSpec cache() const override {
    int v_dim = o_.v_dim == o_.head_dim ? 0 : o_.v_dim;
    if (o_.window > 0)
      return SlidingKv{o_.kv_heads, o_.head_dim, o_.window, v_dim};
    return FullKv{o_.kv_heads, o_.head_dim, v_dim};
  }

 private:
  Linear projection(
      const Scope& s,
      const std::string& name,
      int begin,
      int out,
      int units) const {
    LinearOptions options{.bias = o_.bias, .split = Split::out, .units = units};
    if (o_.fused.empty()) return s.linear(name, o_.hidden, out, options);
    return s.linear_rows(
        o_.fused,
        o_.hidden,
        q_dim_ + k_dim_ + v_dim_,
        begin,
        begin + out,
        options);
  }

  std::vector<Linear> inputs(const Scope& s) const {
    int all = q_dim_ + k_dim_ + v_dim_;
    if (o_.fused_by_group)
      return {s.linear(o_.fused, o_.hidden, all, {.bias = o_.bias})};
    return {
        projection(s, o_.q, 0, q_dim_, o_.heads),
        projection(s, o_.k, q_dim_, k_dim_, o_.kv_heads),
        projection(s, o_.v, q_dim_ + k_dim_, v_dim_, o_.kv_heads)};
  }

  std::vector<mx::array> by_group(const mx::array& x) const {
    int n = x.shape(1), queries = q_dim_ / o_.kv_heads;
    auto parts = mx::split(
        mx::reshape(x, {1, n, o_.kv_heads, x.shape(2) / o_.kv_heads}),
        mx::Shape{queries, queries + o_.head_dim},
        -1);
    return {
        mx::reshape(parts[0], {1, n, q_dim_}),
        mx::reshape(parts[1], {1, n, k_dim_}),
        mx::reshape(parts[2], {1, n, v_dim_})};
  }

  mx::array heads(const mx::array& x, int count, int width) const {
    return mx::reshape(x, {1, x.shape(1), count, width / count});
  }

  mx::array clipped(const mx::array& x) const {
    auto edge = mx::array(o_.clip, x.dtype());
    return mx::clip(x, mx::negative(edge), edge);
  }

  mx::array normed(const mx::array& x, const Norm& norm) const {
    if (norm.identity() || norm.width() == 0 || norm.width() == x.shape(3))
      return norm(x);
    auto flat = mx::reshape(x, {1, x.shape(1), x.shape(2) * x.shape(3)});
    return mx::reshape(norm(flat), x.shape());
  }

  mx::array placed(mx::array x, const Norm& norm, const Step& step) const {
    if (!o_.norm_after_rope) x = normed(x, norm);
    x = o_.rope(x, step);
    return o_.norm_after_rope ? normed(x, norm) : x;
  }

  AttendOptions attend_options() const {
    AttendOptions out{.scale = o_.scale, .softcap = o_.softcap};
    if (sinks_) out.sinks = **sinks_;
    return out;
  }

  AttentionOptions o_;
  int q_dim_, k_dim_, v_dim_;
  std::vector<Linear> in_; // q, k, v, or all in one
  Linear out_;
  std::optional<Param> sinks_;
};

} // namespace

BlockPtr attention(const Scope& s, const AttentionOptions& options) {
  auto o = options;
  if (o.heads % o.kv_heads != 0)
    fail(
        ErrorKind::config,
        s.path(),
        "expected a multiple of {} key-value heads, found {} heads",
        o.kv_heads,
        o.heads);
  if (o.v_dim == 0) o.v_dim = o.head_dim;
  if (o.scale == 0) o.scale = 1 / std::sqrt(static_cast<float>(o.head_dim));
  return std::make_unique<Attention>(s, o);
}

} // namespace mlxlm

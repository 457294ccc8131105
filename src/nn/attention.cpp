#include "nn/attention.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "nn/fused.h"
#include "runtime/kernels/elementwise.h"

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
    auto y = attended(x, step, *cache);
    if (o_.on_y) y = o_.on_y(y, x);
    return out_(mx::reshape(y, {1, x.shape(1), o_.heads * o_.v_dim}));
  }

  CacheSpec cache() const override {
    if (o_.source >= 0) return SharedKv{o_.source};
    int v_dim = o_.v_dim == o_.head_dim ? 0 : o_.v_dim;
    if (o_.window > 0)
      return SlidingKv{o_.kv_heads, o_.head_dim, o_.window, v_dim, o_.chunked};
    return FullKv{o_.kv_heads, o_.head_dim, v_dim};
  }

 private:
  // [1, N, H, Dv]
  mx::array attended(const mx::array& x, const Step& step, LayerCache& cache)
      const {
    auto qkv = linears(x, in_);
    if (o_.fused_by_group) qkv = by_group(qkv[0]);
    if (o_.clip > 0)
      for (auto& part : qkv)
        part = clipped(part);
    std::optional<mx::array> gate;
    if (o_.gated_queries) {
      auto halves = mx::split(heads(qkv[0], o_.heads, q_dim_), 2, -1);
      qkv[0] = halves[0];
      gate = halves[1];
    }
    auto qk = placed(qkv, step);
    auto q = changed(qk[0], o_.on_q);
    if (o_.temperature != 0) {
      auto t = query_temperature(
          step, o_.temperature, o_.temperature_length, o_.temperature_first);
      q = q * mx::astype(t, q.dtype());
    }
    if (o_.source >= 0) return cache.attend(step, q, attend_options());
    auto k = changed(qk[1], o_.on_k);
    auto v = heads(qkv.back(), o_.kv_heads, v_dim_);
    auto y = cache.attend(step, q, k, changed(v, o_.on_v), attend_options());
    return gate ? kernels::gated_by(y, *gate) : y;
  }

  static mx::array changed(
      const mx::array& x,
      const AttentionOptions::Change& change) {
    return change ? change(x) : x;
  }

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
    std::vector<Linear> out = {projection(s, o_.q, 0, q_dim_, o_.heads)};
    if (o_.source >= 0) return out;
    out.push_back(projection(s, o_.k, q_dim_, k_dim_, o_.kv_heads));
    if (!o_.values_are_keys)
      out.push_back(projection(s, o_.v, q_dim_ + k_dim_, v_dim_, o_.kv_heads));
    return out;
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

  // x [1, N, H, D] or [1, N, H * D], which a norm over the whole projection
  // wants.
  mx::array normed(const mx::array& x, const Norm& norm) const {
    if (norm.identity()) return x;
    int all = x.ndim() == 4 ? x.shape(2) * x.shape(3) : x.shape(2);
    bool whole = norm.width() == all;
    return norm(mx::reshape(
        x,
        whole ? mx::Shape{1, x.shape(1), all}
              : mx::Shape{1, x.shape(1), all / o_.head_dim, o_.head_dim}));
  }

  // Queries and keys (those there are) with their heads, normed and turned.
  std::vector<mx::array> placed(
      const std::vector<mx::array>& qkv,
      const Step& step) const {
    std::vector<const Norm*> norms = {&o_.q_norm};
    if (o_.source < 0) norms.push_back(&o_.k_norm);
    std::vector<kernels::RopeInput> in;
    for (std::size_t i = 0; i < norms.size(); ++i)
      in.push_back(ready(qkv[i], *norms[i]));
    std::vector<mx::array> out;
    if (o_.rope)
      out = o_.rope(in, step);
    else
      for (const auto& x : in)
        out.push_back(x.x);
    for (std::size_t i = 0; i < norms.size(); ++i) {
      if (o_.norm_after_rope) out[i] = normed(out[i], *norms[i]);
      out[i] = by_head(out[i], i == 0 ? o_.heads : o_.kv_heads);
    }
    return out;
  }

  // Normed, or to be normed by the rope.
  kernels::RopeInput ready(const mx::array& x, const Norm& norm) const {
    kernels::RopeInput in{x, o_.head_dim};
    auto rms = norm.rms();
    if (o_.norm_after_rope) return in;
    if (o_.rope && rms && norm.width() == o_.head_dim) {
      in.norm_weight = rms->weight;
      in.norm_eps = rms->eps;
      in.norm_offset = rms->offset;
    } else {
      in.x = normed(x, norm);
    }
    return in;
  }

  mx::array by_head(const mx::array& x, int count) const {
    return x.ndim() == 4 ? x : heads(x, count, x.shape(2));
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
  auto within = [&](const char* what, int value, int most) {
    if (value < 1 || value > most)
      fail(
          ErrorKind::config,
          s.path(),
          "expected 1 to {} {}, found {}",
          most,
          what,
          value);
  };
  within("heads", o.heads, 1 << 14);
  within("key-value heads", o.kv_heads, 1 << 14);
  within("numbers a head", std::max(o.head_dim, o.v_dim), 1 << 13);
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

// Baichuan-M1: keys and values are mixed with those of the token before (two
// learned taps a head) ahead of the rope; window layers have head counts of
// their own; rows of the head are scaled to length one.
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"
#include "nn/recurrent.h"

namespace mlxlm::models {

namespace {

class MixedAttention : public Block {
 public:
  struct Options {
    int hidden, heads, kv_heads, head_dim, window;
    Rope rope;
  };

  MixedAttention(const Scope& s, const Options& o)
      : o_(o), kv_dim_(o.kv_heads * o.head_dim), out_(out(s)) {
    int begin = 0, all = o.hidden + 2 * kv_dim_;
    for (int rows : {o.hidden, kv_dim_, kv_dim_}) {
      in_.push_back(
          s.linear_rows("W_pack", o.hidden, all, begin, begin + rows));
      begin += rows;
    }
    for (auto name : {"conv_k", "conv_v"})
      taps_.push_back(s.param(name, {1, 1, o.kv_heads, 1, 2}, mx::float32));
  }

  mx::array operator()(const mx::array&, const Step&, LayerCache*)
      const override {
    MLXLM_CHECK(false, "this block remembers several things");
  }
  mx::array run(
      const mx::array& x,
      const Step& step,
      const std::vector<LayerCache*>& caches) const override {
    auto qkv = linears(x, in_);
    auto groups = batches(step);
    auto k = mixed(qkv[1], groups, 0, *caches[0]);
    auto v = mixed(qkv[2], groups, 1, *caches[0]);
    auto turned = o_.rope({{qkv[0], o_.head_dim}, {k, o_.head_dim}}, step);
    auto by_head = [&](const mx::array& part) {
      return mx::reshape(part, {1, x.shape(1), -1, o_.head_dim});
    };
    AttendOptions options{
        .scale = 1 / std::sqrt(static_cast<float>(o_.head_dim))};
    auto y = caches[1]->attend(
        step, by_head(turned[0]), by_head(turned[1]), by_head(v), options);
    return out_(mx::reshape(y, x.shape()));
  }
  std::vector<CacheSpec> caches() const override {
    Recurrent::State last{{1, kv_dim_}, mx::float32}; // k or v of a token
    CacheSpec keys = FullKv{o_.kv_heads, o_.head_dim};
    if (o_.window) keys = SlidingKv{o_.kv_heads, o_.head_dim, o_.window};
    return {Recurrent{{last, last}}, keys};
  }

 private:
  Linear out(const Scope& s) const {
    return s.linear("o_proj", o_.hidden, o_.hidden);
  }

  // x [1, N, kv_dim] and the token before, each times its tap.
  mx::array mixed(
      const mx::array& x,
      const std::vector<SegmentBatch>& groups,
      int which,
      LayerCache& cache) const {
    // [kv_heads, 2] -> [kv_dim, 2]
    auto taps = mx::repeat(
        mx::reshape(*taps_[which], {o_.kv_heads, 2}), o_.head_dim, 0);
    std::vector<mx::array> results;
    for (const auto& g : groups) {
      auto [y, next] =
          causal_conv(g.of(x), g.state(cache, which), taps, std::nullopt);
      g.set_state(cache, which, mx::astype(next, mx::float32));
      results.push_back(mx::astype(y, x.dtype()));
    }
    return in_order(groups, results);
  }

  Options o_;
  int kv_dim_;
  std::vector<Linear> in_; // q, k, v
  std::vector<Param> taps_; // of k and v
  Linear out_;
};

} // namespace

ModelPtr baichuan_m1(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  f.range("conv_window", 2, 2, 2);
  auto sliding = f.opt("sliding_window_layers", std::vector<int>{});
  auto rope_of = [&](int dims) { return Rope::from(f, dims); };
  auto block = [&](int i, const Scope& s) {
    bool slides = std::find(sliding.begin(), sliding.end(), i) != sliding.end();
    auto count = [&](const char* own, int usual) {
      return slides ? f.range(own, usual, 1, 1 << 14) : usual;
    };
    int heads = count("num_swa_attention_heads", c.heads);
    int kv_heads = count("num_swa_key_value_heads", c.kv_heads);
    if (c.hidden % heads != 0 || heads % kv_heads != 0)
      fail(
          ErrorKind::config,
          f.where("num_swa_attention_heads"),
          "expected a divisor of {} and a multiple of {}, found {}",
          c.hidden,
          kv_heads,
          heads);
    int head_dim = c.hidden / heads;
    MixedAttention::Options a{
        c.hidden,
        heads,
        kv_heads,
        head_dim,
        slides ? f.range("sliding_window", 1, 1 << 24) : 0,
        rope_of(head_dim)};
    return pre_norm_layer(
        s,
        c,
        std::make_unique<MixedAttention>(s / "self_attn", a),
        gated_mlp(s / "mlp", c.mlp()));
  };
  auto o = c.decoder(w);
  o.unit_head = true;
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models

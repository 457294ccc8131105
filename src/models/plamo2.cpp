// PLaMo 2: Mamba with one step width a head, norms on the step widths, B and C,
// attention in every few layers; norms around mixer and MLP.
#include <mlx/ops.h>

#include <cmath>

#include "models/common.h"
#include "models/families.h"
#include "nn/mamba2.h"
#include "nn/recurrent.h"

namespace mlxlm::models {

namespace {

struct Sizes {
  int hidden, heads, head_dim, state, kernel, rank;
  float eps;

  int inner() const {
    return heads * head_dim;
  }
};

class Mixer : public Block {
 public:
  Mixer(const Scope& s, const Sizes& o)
      : o_(o),
        in_(s.linear("in_proj", o.hidden, 2 * o.inner())),
        rates_(s.linear("bcdt_proj", o.inner(), o.rank + 2 * o.state)),
        dt_(s.linear("dt_proj", o.rank, o.heads)),
        out_(s.linear("out_proj", o.inner(), o.hidden)),
        conv_(s, {"conv1d"}, o.inner(), o.kernel),
        dt_norm_(rms_norm(s, "dt_norm", o.rank, o.eps)),
        b_norm_(rms_norm(s, "B_norm", o.state, o.eps)),
        c_norm_(rms_norm(s, "C_norm", o.state, o.eps)),
        a_log_(s.param("A_log", {o.heads}, mx::float32)),
        d_(s.param("D", {o.heads}, mx::float32)),
        dt_bias_(s.param("dt_bias", {o.heads}, mx::float32)) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    int n = x.shape(1);
    auto flat = [&](const mx::array& v) {
      return mx::reshape(v, {1, n, o_.inner()});
    };
    // Head by head: its gates, its inputs.
    auto parts = mx::split(
        mx::reshape(in_(x), {1, n, o_.heads, 2 * o_.head_dim}), 2, -1);
    auto inputs = flat(parts[1]);
    auto groups = batches(step);
    std::vector<mx::array> results;
    for (const auto& g : groups)
      results.push_back(mixed(g.of(inputs), g, *cache));
    auto y = mx::astype(in_order(groups, results), x.dtype());
    return out_(gate_up(Activation::silu, flat(parts[0]), y));
  }

  CacheSpec cache() const override {
    Recurrent out;
    out.states.push_back(conv_.state());
    out.states.push_back({{o_.heads, o_.head_dim, o_.state}, mx::float32});
    return out;
  }

 private:
  mx::array mixed(const mx::array& in, const SegmentBatch& g, LayerCache& cache)
      const {
    auto x = apply(Activation::silu, conv_(in, g, cache, 0));
    auto parts = mx::split(rates_(x), mx::Shape{o_.state, 2 * o_.state}, -1);
    auto real = [](const mx::array& v) { return mx::astype(v, mx::float32); };
    auto one_group = [&](const mx::array& v) {
      return mx::expand_dims(real(v), 2);
    };
    auto dt = softplus(real(dt_(dt_norm_(parts[2]))) + *dt_bias_);
    auto [y, state] = state_space(
        mx::reshape(real(x), {g.size(), g.count, o_.heads, o_.head_dim}),
        mx::clip(dt, mx::array(0.001f), mx::array(100.0f)),
        mx::negative(mx::exp(*a_log_)),
        one_group(b_norm_(parts[0])),
        one_group(c_norm_(parts[1])),
        *d_,
        g.state(cache, 1));
    g.set_state(cache, 1, state);
    return mx::reshape(y, {g.size(), g.count, o_.inner()});
  }

  Sizes o_;
  Linear in_, rates_, dt_, out_;
  ShortConv conv_;
  Norm dt_norm_, b_norm_, c_norm_;
  Param a_log_, d_, dt_bias_;
};

Sizes sizes(const Fields& f, const Common& c) {
  Sizes o;
  o.hidden = c.hidden;
  o.heads = f.range("mamba_num_heads", 64, 1, 1 << 14);
  o.head_dim = c.head_dim;
  o.state = f.range("mamba_d_state", 64, 1, 1 << 13);
  o.kernel = f.range("mamba_d_conv", 4, 2, 64);
  o.rank = std::max(64, c.hidden / 16);
  o.eps = c.eps;
  return o;
}

BlockPtr attends(const Common& c, const Rope& rope, const Scope& s) {
  auto a = c.attention();
  a.fused = "qkv_proj";
  a.rope = rope;
  a.q_norm = head_rms_norm(s, "q_norm", c.heads, c.head_dim, 1e-6f);
  a.k_norm = head_rms_norm(s, "k_norm", c.kv_heads, c.head_dim, 1e-6f);
  return attention(s, a);
}

} // namespace

ModelPtr plamo2(const Fields& f, const Scope& w) {
  auto known = with_aliases(f, {{"head_dim", "hidden_size_per_head"}});
  auto c = Common::parse(
      with_defaults(known, {{"head_dim", 128}, {"num_key_value_heads", 4}}),
      true);
  auto mamba = sizes(f, c);
  auto rope = Rope::from(f, c.head_dim);
  bool hybrid = f.opt("mamba_enabled", true);
  int step = f.range("mamba_step", 2, 2, 1 << 20);
  auto recurrent = [&](int i) {
    if (!hybrid) return false;
    return c.depth <= step / 2 ? i + 1 != c.depth : i % step != step / 2;
  };
  auto mlp = c.mlp();
  mlp.fused = "gate_up_proj";
  auto block = [&](int i, const Scope& s) {
    auto norm = [&](const char* name, float offset) {
      return rms_norm(s, name, c.hidden, c.eps, offset);
    };
    auto at = s / "mixer";
    return layer(
        Sublayer{
            norm("pre_mixer_norm", 1),
            recurrent(i) ? std::make_unique<Mixer>(at, mamba)
                         : attends(c, rope, at),
            norm("post_mixer_norm", 1.0f / 5)},
        Sublayer{
            norm("pre_mlp_norm", 1),
            gated_mlp(s / "mlp", mlp),
            norm("post_mlp_norm", 1 / std::pow(5.0f, 1.5f))});
  };
  DecoderOptions o;
  o.layers = "model.layers.layers";
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = rms_norm(w, "model.norm", c.hidden, c.eps, 1);
  return decoder(w, std::move(o), block);
}

std::vector<Rule> plamo2_rules(const Fields&, const TensorSource&) {
  std::vector<Rule> rules{merge_axes("*.conv1d.weight")};
  for (std::string name : {"dt_norm", "B_norm", "C_norm"})
    rules.push_back(
        rename("*.mixer." + name + "_weight", "*.mixer." + name + ".weight"));
  rules.push_back(rename("*.mixer.q_weight", "*.mixer.q_norm.weight"));
  rules.push_back(rename("*.mixer.k_weight", "*.mixer.k_norm.weight"));
  return rules;
}

} // namespace mlxlm::models

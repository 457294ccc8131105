// Layers that run more than once, each time with keys and values of their own:
// Nanbeige (the whole stack), IQuest-Coder (twice; the second time every head
// mixes what the first time's keys give with a window of its own).
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// A pre-norm layer whose blocks run in several places.
struct Reused {
  Norm before_attention, before_mlp;
  std::shared_ptr<const Block> mlp;

  Reused(const Scope& s, const Common& c, const MlpOptions& m)
      : before_attention(rms_norm(s, "input_layernorm", c.hidden, c.eps)),
        before_mlp(rms_norm(s, "post_attention_layernorm", c.hidden, c.eps)),
        mlp(gated_mlp(s / "mlp", m)) {}
  Layer run(BlockPtr attention) const {
    return layer(
        Sublayer{before_attention, std::move(attention)},
        Sublayer{before_mlp, again(mlp)});
  }
};

MlpOptions mlp_options(const Fields& f, const Common& c) {
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  return m;
}

void refuse(const Fields& f, const char* key) {
  if (f.opt(key, false))
    fail(
        ErrorKind::config,
        f.where(key),
        "expected false, found true; it is not supported");
}

int loops(const Fields& f) {
  // Checkpoints trained with a loss a loop have a weight for each extra one.
  if (f.has("loop_loss_weights")) {
    auto extra = f.req<std::vector<double>>("loop_loss_weights").size();
    if (extra > 0 && extra < 64) return static_cast<int>(extra) + 1;
  }
  return f.range("num_loops", 1, 1, 64);
}

} // namespace

ModelPtr nanbeige(const Fields& f, const Scope& w) {
  for (auto key :
       {"enable_double_loop_split", "loop_share_kv", "enable_depth_attention"})
    refuse(f, key);
  auto c = Common::parse(f);
  auto bias = bias_if(f.opt("attention_bias", false));
  auto a = c.attention();
  a.rope = Rope::from(f, c.head_dim);
  a.bias = a.out_bias = bias;
  bool normed = !f.opt("skip_loop_final_norm", false);
  std::vector<Reused> layers;
  std::vector<std::shared_ptr<const Block>> attentions;
  auto o = c.decoder(w);
  o.depth = c.depth * loops(f);
  auto block = [&](int i, const Scope& s) {
    if (i < c.depth) {
      layers.emplace_back(s, c, mlp_options(f, c));
      attentions.push_back(attention(s / "self_attn", a));
    }
    auto l = layers[i % c.depth].run(again(attentions[i % c.depth]));
    bool loop_ends = (i + 1) % c.depth == 0 && i + 1 < o.depth;
    if (loop_ends && normed)
      l.end = [norm = o.norm](
                  const mx::array& h, const std::optional<mx::array>&) {
        return norm(h);
      };
    return l;
  };
  return decoder(w, o, block);
}

namespace {

// What both runs of an IQuest layer share.
struct LoopAttention {
  LoopAttention(
      const Scope& s,
      const Scope& gate,
      const Common& c,
      Bias bias,
      Rope r,
      int local)
      : heads(c.heads),
        kv_heads(c.kv_heads),
        head_dim(c.head_dim),
        window(local),
        rope(std::move(r)),
        in{s.linear("q_proj", c.hidden, heads * head_dim, {.bias = bias}),
           s.linear("k_proj", c.hidden, kv_heads * head_dim, {.bias = bias}),
           s.linear("v_proj", c.hidden, kv_heads * head_dim, {.bias = bias})},
        out(s.linear("o_proj", heads * head_dim, c.hidden, {.bias = bias})),
        gate_weight(gate.param("weight", {heads, head_dim})),
        gate_bias(gate.param("bias", {heads})) {}

  // q, k, v [1, N, H, D], q and k turned.
  std::vector<mx::array> project(const mx::array& x, const Step& step) const {
    auto y = linears(x, in);
    auto turned = rope({{y[0], head_dim}, {y[1], head_dim}}, step);
    auto by_head = [&](const mx::array& part) {
      return mx::reshape(part, {1, x.shape(1), -1, head_dim});
    };
    return {by_head(turned[0]), by_head(turned[1]), by_head(y[2])};
  }
  mx::array joined(const mx::array& y) const {
    return out(mx::reshape(y, {1, y.shape(1), heads * head_dim}));
  }
  // How much of the first run's keys each query wants, [1, N, H, 1].
  mx::array gate(const mx::array& q) const {
    auto logits = mx::sum(q * *gate_weight, -1) + *gate_bias;
    return mx::expand_dims(mx::sigmoid(logits), -1);
  }
  AttendOptions attend() const {
    return {.scale = 1 / std::sqrt(static_cast<float>(head_dim))};
  }

  int heads, kv_heads, head_dim, window;
  Rope rope;
  std::vector<Linear> in;
  Linear out;
  Param gate_weight, gate_bias;
};
using LoopAttentionPtr = std::shared_ptr<const LoopAttention>;

class FirstRun : public Block {
 public:
  explicit FirstRun(LoopAttentionPtr a) : a_(std::move(a)) {}
  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto p = a_->project(x, step);
    return a_->joined(cache->attend(step, p[0], p[1], p[2], a_->attend()));
  }
  CacheSpec cache() const override {
    return FullKv{a_->kv_heads, a_->head_dim};
  }

 private:
  LoopAttentionPtr a_;
};

class SecondRun : public Block {
 public:
  SecondRun(LoopAttentionPtr a, int first_run)
      : a_(std::move(a)), first_run_(first_run) {}
  mx::array operator()(const mx::array&, const Step&, LayerCache*)
      const override {
    MLXLM_CHECK(false, "this block remembers several things");
  }
  mx::array run(
      const mx::array& x,
      const Step& step,
      const std::vector<LayerCache*>& caches) const override {
    auto p = a_->project(x, step);
    auto wide = caches[0]->attend(step, p[0], a_->attend());
    auto near = caches[1]->attend(step, p[0], p[1], p[2], a_->attend());
    return a_->joined(near + a_->gate(p[0]) * (wide - near));
  }
  std::vector<CacheSpec> caches() const override {
    return {
        SharedKv{first_run_},
        SlidingKv{a_->kv_heads, a_->head_dim, a_->window}};
  }

 private:
  LoopAttentionPtr a_;
  int first_run_; // its memory layer
};

} // namespace

ModelPtr iquest(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  f.range("loop_num", 2, 2, 2);
  int window = f.range("loop_window_size", 64, 1, 1 << 24);
  auto rope = Rope::from(f, c.head_dim, {.theta = 500000});
  auto bias = bias_if(f.opt("attention_bias", false));
  std::vector<Reused> layers;
  std::vector<LoopAttentionPtr> attentions;
  auto o = c.decoder(w);
  o.depth = 2 * c.depth;
  auto block = [&](int i, const Scope& s) {
    if (i >= c.depth) {
      int n = i - c.depth;
      return layers[n].run(std::make_unique<SecondRun>(attentions[n], n));
    }
    layers.emplace_back(s, c, mlp_options(f, c));
    attentions.push_back(std::make_shared<LoopAttention>(
        s / "self_attn",
        w / "model.gate_projections" / i,
        c,
        bias,
        rope,
        window));
    return layers[i].run(std::make_unique<FirstRun>(attentions[i]));
  };
  return decoder(w, o, block);
}

} // namespace mlxlm::models

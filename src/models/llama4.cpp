// Llama 4: layers that turn and see their own chunk of the context, every
// fourth one that does neither; experts that take their input times the
// router's weight, beside a shared one.
#include <mlx/ops.h>

#include <algorithm>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

class InputWeightedMoe : public Block {
 public:
  InputWeightedMoe(const Scope& s, const Common& c, const RouterOptions& r)
      : router_(s, r),
        experts_(
            s / "switch_mlp",
            {.hidden = c.hidden,
             .inner = c.inner,
             .experts = r.experts,
             .act = c.act}),
        shared_(gated_mlp(s / "shared_expert", c.mlp())) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache*)
      const override {
    auto rows = mx::squeeze(x, 0); // [T, hidden]
    auto [ids, weights] = router_(rows); // [T, k]
    int n = rows.shape(0), k = ids.shape(1), hidden = rows.shape(1);
    auto w = mx::expand_dims(mx::astype(weights, x.dtype()), -1);
    auto in = mx::reshape(mx::expand_dims(rows, 1) * w, {n * k, hidden});
    auto y = experts_(in, mx::reshape(ids, {n * k, 1}));
    auto sum = mx::sum(mx::reshape(y, {n, k, hidden}), 1);
    return mx::expand_dims(sum, 0) + (*shared_)(x, step, nullptr);
  }

 private:
  Router router_;
  Experts experts_;
  BlockPtr shared_;
};

// `moe_layers`, else every `interleave_moe_layer_step`-th.
bool llama4_sparse(const Fields& f, int i) {
  if (size_field(f, "num_local_experts", 0) == 0) return false;
  int step = size_field(f, "interleave_moe_layer_step", 1);
  if (!f.has("moe_layers")) return step > 0 && i % step == step - 1;
  auto list = f.req<std::vector<int>>("moe_layers");
  return std::find(list.begin(), list.end(), i) != list.end();
}

// 1: the layer turns its queries and keys.
bool turns(const Fields& f, int i) {
  auto list = f.opt("no_rope_layers", std::vector<int>{});
  if (!list.empty()) return layer_field(f, "no_rope_layers", i, 1) != 0;
  return (i + 1) % f.range("no_rope_layer_interval", 4, 1, 1 << 20) != 0;
}

MlpMaker llama4_mlps(const Fields& f, const Common& c) {
  return [&](int i, const Scope& s) -> BlockPtr {
    if (!llama4_sparse(f, i)) {
      auto o = c.mlp();
      o.inner = size_field(f, "intermediate_size_mlp", c.inner);
      return gated_mlp(s, o);
    }
    return std::make_unique<InputWeightedMoe>(
        s,
        c,
        RouterOptions{
            .hidden = c.hidden,
            .experts = size_field(f, "num_local_experts"),
            .routing =
                {.top_k = size_field(f, "num_experts_per_tok", 1),
                 .score = Routing::Score::sigmoid},
            .name = "router"});
  };
}

} // namespace

ModelPtr llama4(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim, {.traditional = true});
  auto kinds = layer_types(
      f, c.depth, {"chunked_attention", "full_attention"}, [&](int i) {
        return turns(f, i) ? "chunked_attention" : "full_attention";
      });
  auto bias = bias_if(f.opt("attention_bias", false));
  bool normed = f.opt("use_qk_norm", true);
  // A flag in some configs, a number in others.
  bool tuned = !f.has("attn_temperature_tuning") ||
      (f.req<Json>("attn_temperature_tuning") != false &&
       f.req<Json>("attn_temperature_tuning") != 0);
  auto mlp = llama4_mlps(f, c);
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.bias = a.out_bias = bias;
    a.chunked = kinds[i] == "chunked_attention";
    if (a.chunked) a.window = size_field(f, "attention_chunk_size", 0);
    if (turns(f, i)) {
      a.rope = rope;
      // Without a weight, before the rotation as good as behind it.
      if (normed) a.q_norm = a.k_norm = rms_norm(c.eps);
    } else if (tuned) {
      a.temperature = f.opt("attn_scale", 0.1f);
      a.temperature_length = f.range("floor_scale", 8192, 1, 1 << 30);
      a.temperature_first = 1;
    }
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), mlp(i, s / "feed_forward"));
  };
  auto o = c.decoder(w);
  if (w.has("output")) o.head = "output"; // as MLX writes text-only models
  return decoder(w, std::move(o), block);
}

// Published: all experts in one tensor, [experts, in, out].
std::vector<Rule> llama4_rules(const Fields&, const TensorSource&) {
  std::vector<Rule> rules = {
      move_axis("*.experts.gate_up_proj", 1, 2),
      move_axis("*.experts.down_proj", 1, 2)};
  for (auto& r : expert_rules())
    rules.push_back(std::move(r));
  return rules;
}

} // namespace mlxlm::models

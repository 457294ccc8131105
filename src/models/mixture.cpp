// Mixtures of experts as configs describe them: which layers have one,
// DeepSeek's names for its sizes.
#include "models/common.h"

namespace mlxlm::models {

BlockPtr mixture(const Scope& s, const Common& c, Mixture m) {
  MoeOptions o;
  o.router = std::move(m.router);
  o.router.hidden = c.hidden;
  o.experts = {
      .hidden = c.hidden,
      .inner = m.inner,
      .experts = o.router.experts,
      .act = c.act,
      .bias = m.bias};
  auto shared = c.mlp();
  shared.bias = m.bias;
  shared.inner = m.shared_inner;
  return moe(s, o, shared.inner ? gated_mlp(s / m.shared, shared) : nullptr);
}

MlpMaker mixed_mlps(
    const Fields& f,
    const Common& c,
    const Mixture& m,
    const std::function<bool(int)>& sparse) {
  // What predicts further tokens lies behind the list.
  auto kinds = layer_types(
      f,
      c.depth,
      {"dense", "sparse"},
      [&](int i) { return sparse(i) ? "sparse" : "dense"; },
      "mlp_layer_types");
  return [=](int i, const Scope& s) {
    bool chosen = i < c.depth ? kinds[i] == "sparse" : sparse(i);
    if (m.router.experts > 0 && chosen) return mixture(s, c, m);
    auto o = c.mlp();
    o.bias = m.bias;
    return gated_mlp(s, o);
  };
}

Mixture deepseek_mixture(const Fields& f) {
  Mixture m;
  m.router.experts = size_field(f, "n_routed_experts", 0);
  if (m.router.experts == 0) return m;
  m.router.routing.top_k = size_field(f, "num_experts_per_tok");
  m.inner = f.range("moe_intermediate_size", 1, 1 << 20);
  m.shared_inner = m.inner * f.range("n_shared_experts", 0, 0, 1 << 10);
  return m;
}

MlpMaker deepseek_mlps(const Fields& f, const Common& c, const Mixture& m) {
  int dense = size_field(f, "first_k_dense_replace", 0);
  int every = f.range("moe_layer_freq", 1, 1, 1 << 20);
  return mixed_mlps(
      f, c, m, [=](int i) { return i >= dense && i % every == 0; });
}

void route_by_pairs(const Fields& f, Routing& routing) {
  routing.groups = size_field(f, "n_group", 1);
  routing.top_groups = size_field(f, "topk_group", 1);
  routing.pairs = true;
  routing.normalize = f.opt("norm_topk_prob", true);
  routing.normalize_eps = 1e-20f;
  routing.scale = f.opt("routed_scaling_factor", 1.0f);
}

Mixture sigmoid_mixture(const Fields& f) {
  auto m = deepseek_mixture(f);
  m.router.routing.score = Routing::Score::sigmoid;
  route_by_pairs(f, m.router.routing);
  m.router.correction = "gate.e_score_correction_bias";
  return m;
}

BlockPtr sigmoid_experts(
    const Fields& f,
    const Common& c,
    int index,
    const Scope& s) {
  return deepseek_mlps(f, c, sigmoid_mixture(f))(index, s);
}

} // namespace mlxlm::models

// MiniMax-M2: norms over all of q and of k, part of the head turned, experts
// chosen by sigmoid scores with a correction, in every layer.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr minimax_m2(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope =
      Rope::from(f, c.head_dim, {.dims = size_field(f, "rotary_dim", 0)});
  bool normed = f.opt("use_qk_norm", true);
  Mixture m;
  m.router = {
      .experts = size_field(f, "num_local_experts"),
      .routing =
          {.top_k = size_field(f, "num_experts_per_tok"),
           .score = Routing::Score::sigmoid,
           .normalize = true,
           .normalize_eps = 1e-20f},
      .correction = "e_score_correction_bias"};
  m.inner = c.inner;
  auto block = [&](int, const Scope& s) {
    auto at = s / "self_attn";
    auto a = c.attention();
    a.rope = rope;
    if (normed) {
      a.q_norm = rms_norm(at, "q_norm", c.heads * c.head_dim, c.eps);
      a.k_norm = rms_norm(at, "k_norm", c.kv_heads * c.head_dim, c.eps);
    }
    return pre_norm_layer(
        s, c, attention(at, a), mixture(s / "block_sparse_moe", c, m));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> minimax_m2_rules(const Fields& f, const TensorSource& t) {
  auto rules = drop_prediction_layers(f, t);
  for (auto& r : mixtral_rules(f, t))
    rules.push_back(std::move(r));
  return rules;
}

} // namespace mlxlm::models

// Mixtral: Mistral's attention, and experts whose weights are a softmax over
// the chosen logits.
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr mixtral(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim, {.theta = 1000000});
  auto window = windows(f, c.depth, [](int) { return true; });
  int experts = size_field(f, "num_local_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .routing = {
          .top_k = size_field(f, "num_experts_per_tok"), .normalize = true}};
  m.experts = {
      .hidden = c.hidden, .inner = c.inner, .experts = experts, .act = c.act};
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.window = window[i];
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), moe(s / "block_sparse_moe", m));
  };
  return decoder(w, c.decoder(w), block);
}

std::vector<Rule> mixtral_rules(const Fields&, const TensorSource&) {
  return expert_rules(
      {{"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}});
}

} // namespace mlxlm::models

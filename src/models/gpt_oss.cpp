// GPT-OSS: a learned logit a head takes attention's mass, every second layer
// slides; biased experts with a clipped SwiGLU.
#include <mlx/ops.h>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// gate * sigmoid(alpha gate) * (up + 1), both cut to the limit.
mx::array clipped_swiglu(
    const mx::array& gate,
    const mx::array& up,
    float alpha,
    float limit) {
  auto type = gate.dtype();
  auto high = mx::array(limit, type), low = mx::array(-limit, type);
  auto g = mx::minimum(gate, high);
  auto u = mx::clip(up, low, high);
  return g * mx::sigmoid(mx::array(alpha, type) * g) *
      (u + mx::array(1.0f, type));
}

} // namespace

ModelPtr gpt_oss(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"head_dim", 64}}));
  auto rope = Rope::from(f, c.head_dim, {.theta = 150000});
  auto window = windows(f, c.depth, [](int i) { return i % 2 == 0; });
  int experts = size_field(f, "num_local_experts");
  float alpha = f.opt("swiglu_alpha", 1.702f);
  float limit = f.opt("swiglu_limit", 7.0f);
  MoeOptions m;
  m.at = "experts";
  m.router = {
      .hidden = c.hidden,
      .experts = experts,
      .routing =
          {.top_k = size_field(
               f, "num_experts_per_tok", size_field(f, "experts_per_token", 4)),
           .normalize = true},
      .name = "router",
      .bias = Bias::required};
  m.experts = {
      .hidden = c.hidden,
      .inner = c.inner,
      .experts = experts,
      .bias = Bias::required,
      .join = [=](const mx::array& gate, const mx::array& up) {
        return clipped_swiglu(gate, up, alpha, limit);
      }};
  auto block = [&](int i, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.window = window[i];
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", true));
    a.sinks = true;
    return pre_norm_layer(
        s, c, attention(s / "self_attn", a), moe(s / "mlp", m));
  };
  return decoder(w, c.decoder(w), block);
}

// Published files interleave the rows of gate and up; plain ones are transposed
// as well, MXFP4 ones come as blocks of 16 bytes with their scales, which is
// how MLX packs them.
std::vector<Rule> gpt_oss_rules(const Fields&, const TensorSource&) {
  auto halves = [](const std::string& from, const std::string& to, int axis) {
    return split(
        "*.experts." + from,
        {"*.experts.gate_proj." + to, "*.experts.up_proj." + to},
        axis,
        true);
  };
  return {
      move_axis("*.experts.gate_up_proj", 1, 2),
      halves("gate_up_proj", "weight", 1),
      halves("gate_up_proj_bias", "bias", 1),
      merge_axes("*.experts.gate_up_proj_blocks"),
      halves("gate_up_proj_blocks", "weight", 1),
      halves("gate_up_proj_scales", "scales", 1),
      move_axis("*.experts.down_proj", 1, 2),
      rename("*.experts.down_proj", "*.experts.down_proj.weight"),
      rename("*.experts.down_proj_bias", "*.experts.down_proj.bias"),
      merge_axes("*.experts.down_proj_blocks"),
      rename("*.experts.down_proj_blocks", "*.experts.down_proj.weight"),
      rename("*.experts.down_proj_scales", "*.experts.down_proj.scales")};
}

} // namespace mlxlm::models

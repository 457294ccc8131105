// Latent attention as DeepSeek's configs describe it.
#include <cmath>

#include "models/common.h"

namespace mlxlm::models {

namespace {

// YaRN: the softmax scale grows with the context extension.
float yarn_scale(const Fields& f, int dim) {
  auto r = f.is_object("rope_parameters") ? f.sub("rope_parameters")
                                          : f.sub("rope_scaling");
  double scale = 1 / std::sqrt(static_cast<double>(dim));
  double all = r.opt<double>("mscale_all_dim", 0);
  auto type = r.opt("rope_type", r.opt("type", "default").c_str());
  if (all != 0 && type != "default") {
    double m = yarn_mscale(r.req<double>("factor"), all);
    scale *= m * m;
  }
  return static_cast<float>(scale);
}

} // namespace

Common latent_common(const Fields& f, bool tied) {
  return Common::parse(
      with_defaults(f, {{"head_dim", size_field(f, "qk_rope_head_dim")}}),
      tied);
}

MlaOptions latent_attention(
    const Fields& f,
    const Common& c,
    bool interleaved) {
  MlaOptions a;
  a.hidden = c.hidden;
  a.heads = c.heads;
  constexpr int most_dim = 1 << 13;
  a.q_rank = size_field(f, "q_lora_rank", 0);
  a.kv_rank = f.range("kv_lora_rank", 1, 1 << 16);
  a.nope_dim = f.range("qk_nope_head_dim", 1, most_dim);
  a.rope_dim = f.range("qk_rope_head_dim", 1, most_dim);
  a.v_dim = f.range("v_head_dim", 1, most_dim);
  bool pairs = f.opt("rope_interleave", f.opt("rope_traditional", interleaved));
  a.rope =
      Rope::from(f, a.rope_dim, {.traditional = pairs, .dims = a.rope_dim});
  a.scale = yarn_scale(f, a.nope_dim + a.rope_dim);
  a.bias = bias_if(f.opt("attention_bias", false));
  return a;
}

} // namespace mlxlm::models

// DeepSeek-V3: latent attention; leading dense layers, then experts chosen by
// sigmoid scores inside groups, and a shared expert.
#include <cmath>

#include "models/common.h"
#include "models/families.h"
#include "nn/mla.h"

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

ModelPtr deepseek_v3(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  MlaOptions a;
  a.hidden = c.hidden;
  a.heads = c.heads;
  a.q_rank = size_field(f, "q_lora_rank", 0);
  a.kv_rank = size_field(f, "kv_lora_rank");
  a.nope_dim = size_field(f, "qk_nope_head_dim");
  a.rope_dim = size_field(f, "qk_rope_head_dim");
  a.v_dim = size_field(f, "v_head_dim");
  a.rope = Rope::from(
      f,
      a.rope_dim,
      {.traditional = f.opt("rope_interleave", true), .dims = a.rope_dim});
  a.scale = yarn_scale(f, a.nope_dim + a.rope_dim);
  a.bias = bias_if(f.opt("attention_bias", false));

  auto block = [&](int i, const Scope& s) {
    return pre_norm_layer(
        s, c, mla(s / "self_attn", a), sigmoid_experts(f, c, i, s / "mlp"));
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models

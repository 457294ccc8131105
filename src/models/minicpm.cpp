// MiniCPM: Llama with scaled embeddings, residual branches and logits.
#include <cmath>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

ModelPtr minicpm(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  auto rope = Rope::from(f, c.head_dim);
  float depth =
      f.opt("scale_depth", 1.0f) / std::sqrt(static_cast<float>(c.depth));
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
    auto l = pre_norm_layer(
        s, c, attention(s / "self_attn", a), gated_mlp(s / "mlp", c.mlp()));
    for (auto& part : l.parts)
      part.scale = depth;
    return l;
  };
  auto o = c.decoder(w);
  o.embed_scale = f.opt("scale_emb", 1.0f);
  int base = size_field(f, "dim_model_base", c.hidden);
  o.logit_scale = static_cast<float>(base) / static_cast<float>(c.hidden);
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models

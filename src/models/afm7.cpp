// AFM-7: the upper layers have queries only and attend to what the last of the
// lower ones stored; keys and values are rounded to 8 bits before that.
#include <mlx/ops.h>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// x as a multiple of `scale` that a signed byte holds.
AttentionOptions::Change rounded_by(const Param& scale) {
  return [scale](const mx::array& x) {
    auto steps = mx::round(mx::astype(x, mx::float32) / *scale);
    steps = mx::clip(steps, mx::array(-128.0f), mx::array(127.0f));
    return mx::astype(steps * *scale, x.dtype());
  };
}

} // namespace

ModelPtr afm7(const Fields& f, const Scope& w) {
  auto c = Common::parse(under_usual_names(
      f,
      {{"hidden_size", "hidden_dim"},
       {"num_hidden_layers", "num_layers"},
       {"num_attention_heads", "num_heads"},
       {"num_key_value_heads", "num_kv_heads"}}));
  c.eps = f.opt("rms_norm_eps", 1e-5f);
  c.tied = true;
  double factor = f.opt("hidden_dim_scale_factor", 3.25);
  if (!(factor > 0 && factor <= 256))
    fail(
        ErrorKind::config,
        f.where("hidden_dim_scale_factor"),
        "expected a number in (0, 256], found {}",
        factor);
  c.inner = static_cast<int>(c.hidden * factor);
  int own = c.depth - f.range("num_kv_reuse_layers", 0, c.depth - 1);
  auto rope = Rope::from(f, c.head_dim, {.traditional = true, .theta = 50000});
  constexpr float eps = 1e-5f; // of q and k, whatever the config says
  auto block = [&](int i, const Scope& layers) {
    auto s = i < own ? layers : w / "model.kv_reuse_layers" / (i - own);
    auto at = s / "self_attn";
    auto a = c.attention();
    a.rope = rope;
    a.o = "out_proj";
    a.norm_after_rope = true;
    a.q_norm = rms_norm(at, "q_norm", c.head_dim, eps);
    if (i < own) {
      a.fused = "qkv_proj";
      a.k_norm = rms_norm(at, "k_norm", c.head_dim, eps);
      a.on_k = rounded_by(at.param("quant_key_scale", {}, mx::float32));
      a.on_v = rounded_by(at.param("quant_value_scale", {}, mx::float32));
    } else {
      a.source = own - 1;
    }
    return pre_norm_layer(
        s, c, attention(at, a), gated_mlp(s / "mlp", c.mlp()));
  };
  auto o = c.frame();
  o.embed = "model.embedding";
  o.norm = rms_norm(w, "model.output_norm", c.hidden, c.eps);
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models

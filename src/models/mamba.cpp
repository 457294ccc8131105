// Mamba, Falcon-Mamba (norms without weights on the step widths, B and C) and
// Mamba-2: one mixer a layer, no attention.
#include "nn/mamba.h"

#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"

namespace mlxlm::models {

namespace {

// What these configs say, in the words of the others.
Common mamba_common(const Fields& f, bool tied) {
  auto c = Common::parse(with_defaults(f, {{"num_attention_heads", 1}}), tied);
  c.eps = f.opt("layer_norm_epsilon", 1e-5f);
  return c;
}

// The names of the first checkpoints.
Fields mamba_names(const Fields& f) {
  return with_aliases(
      f,
      {{"hidden_size", "d_model"},
       {"intermediate_size", "d_inner"},
       {"state_size", "d_state"},
       {"num_hidden_layers", "n_layer"},
       {"num_hidden_layers", "n_layers"},
       {"conv_kernel", "d_conv"},
       {"use_bias", "bias"},
       {"use_conv_bias", "conv_bias"}});
}

} // namespace

ModelPtr mamba(const Fields& fields, const Scope& w) {
  auto f = mamba_names(fields);
  auto c = mamba_common(f, true);
  MambaOptions o;
  o.hidden = c.hidden;
  o.inner = c.inner ? c.inner : c.hidden * f.range("expand", 2, 1, 64);
  o.state = f.range("state_size", 16, 1, 1 << 13);
  o.rank = automatic_size(f, "time_step_rank", (c.hidden + 15) / 16);
  o.kernel = f.range("conv_kernel", 4, 2, 64);
  o.proj_bias = bias_if(f.opt("use_bias", false));
  o.conv_bias = bias_if(f.opt("use_conv_bias", true));
  o.act = c.act;
  if (f.opt("use_bcdt_rms", false))
    o.dt_norm = o.b_norm = o.c_norm = rms_norm(f.opt("mixer_rms_eps", 1e-6f));
  return decoder(w, backbone_decoder(w, c), [&](int, const Scope& s) {
    return mixer_layer(s, c, mlxlm::mamba(s / "mixer", o));
  });
}

ModelPtr falcon_mamba(const Fields& f, const Scope& w) {
  return mamba(f.with({{"use_bcdt_rms", true}}), w);
}

ModelPtr mamba2(const Fields& f, const Scope& w) {
  auto c = mamba_common(f, false);
  constexpr Mamba2Keys keys = {
      "num_heads",
      "head_dim",
      "state_size",
      "n_groups",
      "conv_kernel",
      "use_bias",
      "use_conv_bias"};
  auto o = mamba2_options(f, c, keys, c.hidden * f.range("expand", 2, 1, 64));
  return decoder(w, backbone_decoder(w, c), [&](int, const Scope& s) {
    return mixer_layer(s, c, mlxlm::mamba2(s / "mixer", o));
  });
}

std::vector<Rule> conv_rules(const Fields&, const TensorSource&) {
  return {merge_axes("*.conv1d.weight")};
}

} // namespace mlxlm::models

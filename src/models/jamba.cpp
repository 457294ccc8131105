// Jamba: Mamba with norms on the step widths, B and C; an attention without
// positions in every few layers; experts in every few others.
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"
#include "nn/mamba.h"

namespace mlxlm::models {

namespace {

BlockPtr mixer(const Fields& f, const Common& c, const Scope& s) {
  MambaOptions o;
  o.hidden = c.hidden;
  o.inner = c.hidden * f.range("mamba_expand", 2, 1, 64);
  o.state = f.range("mamba_d_state", 16, 1, 1 << 13);
  o.rank = automatic_size(f, "mamba_dt_rank", (c.hidden + 15) / 16);
  o.kernel = f.range("mamba_d_conv", 4, 2, 64);
  o.proj_bias = bias_if(f.opt("mamba_proj_bias", false));
  o.conv_bias = bias_if(f.opt("mamba_conv_bias", true));
  o.act = c.act;
  o.dt_norm = rms_norm(s, "dt_layernorm", o.rank, c.eps);
  o.b_norm = rms_norm(s, "b_layernorm", o.state, c.eps);
  o.c_norm = rms_norm(s, "c_layernorm", o.state, c.eps);
  return mamba(s, o);
}

BlockPtr experts(const Fields& f, const Common& c, int count, const Scope& s) {
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = count,
      .routing = {.top_k = f.range("num_experts_per_tok", 2, 1, 1 << 16)},
      .name = "router"};
  m.experts = {
      .hidden = c.hidden, .inner = c.inner, .experts = count, .act = c.act};
  return moe(s, m);
}

// Whether layer i is one of every `period`.
std::function<bool(int)> every(
    const Fields& f,
    const std::string& what,
    int period,
    int offset) {
  int n = f.range(what + "_layer_period", period, 1, 1 << 20);
  int first = f.range(what + "_layer_offset", offset, 0, 1 << 20);
  return [=](int i) { return i % n == first; };
}

} // namespace

ModelPtr jamba(const Fields& f, const Scope& w) {
  auto c = Common::parse(with_defaults(f, {{"num_key_value_heads", 8}}));
  int count = f.range("num_experts", 16, 1, 1 << 16);
  auto attends = attention_layers(
      f, c.depth, {"mamba", "linear_attention"}, every(f, "attn", 8, 4));
  auto sparse = every(f, "expert", 2, 1);
  auto block = [&](int i, const Scope& s) {
    auto at = s / "feed_forward";
    auto mix = attends[i] ? attention(s / "self_attn", c.attention())
                          : mixer(f, c, s / "mamba");
    return layer(
        Sublayer{
            rms_norm(s, "input_layernorm", c.hidden, c.eps), std::move(mix)},
        Sublayer{
            rms_norm(s, "pre_ff_layernorm", c.hidden, c.eps),
            count > 1 && sparse(i) ? experts(f, c, count, at)
                                   : gated_mlp(at, c.mlp())});
  };
  auto o = c.decoder(w, "model.final_layernorm");
  return decoder(w, std::move(o), block);
}

std::vector<Rule> jamba_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules();
  rules.push_back(merge_axes("*.conv1d.weight"));
  return rules;
}

} // namespace mlxlm::models

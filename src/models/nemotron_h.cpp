// Nemotron-H: one norm and one mixer a layer, which a pattern picks: Mamba-2
// (M), attention without positions (*), a squared-ReLU MLP (-) or experts of it
// (E).
#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"
#include "nn/mamba2.h"

namespace mlxlm::models {

namespace {

// The pattern string of published configs, or the list of transformers 5.
std::string pattern(const Fields& f) {
  constexpr auto key = "layers_block_type";
  if (!f.has(key)) return f.req<std::string>("hybrid_override_pattern");
  std::string out;
  for (const auto& kind : f.req<std::vector<std::string>>(key)) {
    if (kind == "mamba")
      out += 'M';
    else if (kind == "attention" || kind == "full_attention")
      out += '*';
    else if (kind == "mlp")
      out += '-';
    else if (kind == "moe")
      out += 'E';
    else
      fail(
          ErrorKind::config,
          f.where(key),
          "expected mamba, attention, mlp or moe, found \"{}\"",
          printable(kind));
  }
  return out;
}

BlockPtr mamba(const Fields& f, const Common& c, const Scope& s) {
  auto limits = f.opt("time_step_limit", std::vector<float>{});
  Mamba2Options o;
  o.hidden = c.hidden;
  o.heads = f.range("mamba_num_heads", 1, 1 << 14);
  o.head_dim = f.range("mamba_head_dim", 1, 1 << 13);
  o.state = f.range("ssm_state_size", 1, 1 << 13);
  o.groups = f.range("n_groups", 1, o.heads);
  o.kernel = f.range("conv_kernel", 4, 2, 64);
  o.proj_bias = bias_if(f.opt("mamba_proj_bias", f.opt("use_bias", false)));
  o.conv_bias = bias_if(f.opt("use_conv_bias", true));
  if (limits.size() == 2) {
    o.dt_min = limits[0];
    o.dt_max = limits[1];
  }
  o.eps = c.eps;
  o.norm_groups = o.groups;
  if (o.heads % o.groups != 0)
    fail(
        ErrorKind::config,
        f.where("n_groups"),
        "expected a divisor of mamba_num_heads {}, found {}",
        o.heads,
        o.groups);
  return mamba2(s, o);
}

MlpOptions squared_relu(const Fields& f, const Common& c, int inner) {
  auto o = c.mlp();
  o.inner = inner;
  o.act = activation(f, "mlp_hidden_act", "relu2");
  o.bias = bias_if(f.opt("mlp_bias", false));
  return o;
}

BlockPtr experts(const Fields& f, const Common& c, const Scope& s) {
  int count = size_field(f, "n_routed_experts");
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = count,
      .top_k = size_field(f, "num_experts_per_tok"),
      .score = RouterOptions::Score::sigmoid,
      .groups = size_field(f, "n_group", 1),
      .top_groups = size_field(f, "topk_group", 1),
      .pairs = true,
      .normalize = f.opt("norm_topk_prob", true),
      .normalize_eps = 1e-20f,
      .scale = f.opt("routed_scaling_factor", 1.0f),
      .correction = "gate.e_score_correction_bias"};
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(f, "moe_intermediate_size"),
      .experts = count,
      .act = activation(f, "mlp_hidden_act", "relu2"),
      .gated = false,
      .up = "fc1",
      .down = "fc2"};
  if (size_field(f, "moe_latent_size", 0) > 0)
    fail(
        ErrorKind::config,
        f.where("moe_latent_size"),
        "expected none, found {}; latent experts are not supported yet",
        size_field(f, "moe_latent_size", 0));
  BlockPtr shared;
  if (size_field(f, "n_shared_experts", 0) > 0)
    shared = plain_mlp(
        s / "shared_experts",
        squared_relu(
            f, c, size_field(f, "moe_shared_expert_intermediate_size")));
  return moe(s, m, std::move(shared));
}

} // namespace

ModelPtr nemotron_h(const Fields& f, const Scope& w) {
  auto kinds = pattern(f);
  auto c = Common::parse(
      f.with({{"num_hidden_layers", static_cast<int>(kinds.size())}}));
  c.eps = f.opt("layer_norm_epsilon", f.opt("rms_norm_eps", 1e-5f));
  auto mixer = [&](char kind, const Scope& s) -> BlockPtr {
    switch (kind) {
      case 'M':
        return mamba(f, c, s);
      case '*': {
        auto a = c.attention();
        a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
        return attention(s, a);
      }
      case '-':
        return plain_mlp(s, squared_relu(f, c, c.inner));
      case 'E':
        return experts(f, c, s);
    }
    fail(
        ErrorKind::config,
        f.where("hybrid_override_pattern"),
        "expected M, *, - or E, found '{}'",
        printable({&kind, 1}));
  };
  auto block = [&](int i, const Scope& s) {
    return layer(Sublayer{
        rms_norm(s, "norm", c.hidden, c.eps), mixer(kinds[i], s / "mixer")});
  };
  DecoderOptions o;
  o.embed = "backbone.embeddings";
  o.layers = "backbone.layers";
  o.norm = rms_norm(w, "backbone.norm_f", c.hidden, c.eps);
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  return decoder(w, std::move(o), block);
}

std::vector<Rule> nemotron_h_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules({{"up_proj", "fc1"}, {"down_proj", "fc2"}});
  rules.push_back(merge_axes("*.conv1d.weight"));
  // transformers 5 may save the published names' successors.
  rules.push_back(rename("model.layers.*", "backbone.layers.*"));
  rules.push_back(rename("model.embeddings.*", "backbone.embeddings.*"));
  rules.push_back(rename("model.norm_f.*", "backbone.norm_f.*"));
  rules.push_back(drop("mtp.*"));
  return rules;
}

} // namespace mlxlm::models

// Bailing-MoE (Ling 1 and 2): one matrix for q, k and v; experts chosen by
// softmax or by sigmoid scores inside groups.
#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

Routing::Score score(const Fields& f) {
  auto name = f.opt("score_function", "softmax");
  if (name == "softmax") return Routing::Score::softmax;
  if (name == "sigmoid") return Routing::Score::sigmoid;
  fail(
      ErrorKind::config,
      f.where("score_function"),
      "expected softmax or sigmoid, found \"{}\"",
      printable(name));
}

} // namespace

static Mixture bailing_mixture(const Fields& f) {
  Mixture m;
  m.router = {
      .experts = size_field(f, "num_experts", 0),
      .routing =
          {.top_k = size_field(f, "num_experts_per_tok", 0),
           .score = score(f),
           .groups = size_field(f, "n_group", 1),
           .pairs = true,
           .normalize = f.opt("norm_topk_prob", true),
           .normalize_eps = 1e-20f,
           .scale = f.opt("routed_scaling_factor", 1.0f)},
      .name = "gate.gate_proj"};
  auto& routing = m.router.routing;
  if (routing.groups > 1) routing.top_groups = size_field(f, "topk_group", 4);
  if (f.opt("moe_router_enable_expert_bias", false))
    m.router.correction = "gate.expert_bias";
  m.inner = size_field(f, "moe_intermediate_size");
  m.bias = bias_if(f.opt("use_bias", false));
  if (f.opt("moe_router_enable_shared_expert", true))
    m.shared_inner =
        size_field(f, "moe_shared_expert_intermediate_size", m.inner) *
        f.range("num_shared_experts", 0, 0, 64);
  return m;
}

ModelPtr bailing_moe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope =
      Rope::from(f, c.head_dim, {.dims = size_field(f, "rotary_dim", 0)});
  auto mlp = deepseek_mlps(f, c, bailing_mixture(f));
  bool normed = f.opt("use_qk_norm", false);
  auto block = [&](int i, const Scope& s) {
    auto at = s / "attention";
    auto a = c.attention();
    a.rope = rope;
    a.fused = "query_key_value";
    a.o = "dense";
    a.bias = bias_if(f.opt("use_qkv_bias", false));
    a.out_bias = bias_if(f.opt("use_bias", false));
    if (normed) {
      a.q_norm = rms_norm(at, "query_layernorm", c.head_dim, c.eps);
      a.k_norm = rms_norm(at, "key_layernorm", c.head_dim, c.eps);
    }
    return pre_norm_layer(s, c, attention(at, a), mlp(i, s / "mlp"));
  };
  auto o = c.decoder(w);
  o.embed = "model.word_embeddings";
  o.unit_columns = f.opt("norm_head", false);
  return decoder(w, std::move(o), block);
}

PredictionNames bailing_moe_prediction(const Fields& f) {
  auto out = next_layer_prediction(f);
  auto at = out.first.substr(0, out.first.find(".enorm"));
  out.rules.insert(
      out.rules.begin(),
      rename(at + ".final_layernorm.*", at + ".shared_head.norm.*"));
  return out;
}

std::vector<Rule> bailing_moe_rules(
    const Fields& f,
    const TensorSource& source) {
  auto rules = sigmoid_expert_rules(f, source);
  for (const char* what : {"weight", "scales", "biases", "bias"})
    rules.push_back(rename(
        "*.mlp.gate." + std::string(what),
        "*.mlp.gate.gate_proj." + std::string(what)));
  return rules;
}

} // namespace mlxlm::models

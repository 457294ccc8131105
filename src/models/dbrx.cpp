// DBRX: LayerNorms without bias, q, k and v in one matrix and cut to a range,
// a mixture of experts in every layer.
#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

Fields common_names(const Fields& f) {
  auto attention = f.sub("attn_config");
  return f.with(
      {{"hidden_size", size_field(f, "d_model")},
       {"num_hidden_layers", size_field(f, "n_layers")},
       {"num_attention_heads", size_field(f, "n_heads")},
       {"num_key_value_heads", size_field(attention, "kv_n_heads")},
       {"rope_theta", attention.opt("rope_theta", 10000.0)}});
}

MoeOptions experts(const Fields& f, const Common& c) {
  auto ffn = f.sub("ffn_config");
  constexpr auto normalize = "moe_normalize_expert_weights";
  if (ffn.has(normalize) && ffn.req<double>(normalize) != 1)
    fail(
        ErrorKind::config,
        ffn.where(normalize),
        "expected 1 or null, found {}",
        ffn.req<double>(normalize));
  bool missing = !ffn.json().contains(normalize);
  MoeOptions m;
  m.router = {
      .hidden = c.hidden,
      .experts = size_field(ffn, "moe_num_experts"),
      .routing =
          {.top_k = size_field(ffn, "moe_top_k"),
           .normalize = missing || ffn.has(normalize)},
      .name = "router.layer"};
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(ffn, "ffn_hidden_size"),
      .experts = m.router.experts,
      .act = activation(ffn.sub("ffn_act_fn"), "name", "silu")};
  return m;
}

} // namespace

ModelPtr dbrx(const Fields& config, const Scope& w) {
  auto f = common_names(config);
  auto c = Common::parse(f);
  auto norm = [&](const Scope& s, const char* name) {
    return layer_norm(s, name, c.hidden, 1e-5f, Bias::none);
  };
  auto a = c.attention();
  a.rope = Rope::from(f, c.head_dim);
  a.clip = f.sub("attn_config").opt("clip_qkv", 0.0f);
  a.fused = "Wqkv";
  a.o = "out_proj";
  auto m = experts(f, c);
  auto block = [&](int, const Scope& s) {
    auto at = s / "norm_attn_norm";
    return layer(
        Sublayer{norm(at, "norm_1"), attention(at / "attn", a)},
        Sublayer{norm(at, "norm_2"), moe(s / "ffn", m)});
  };
  DecoderOptions o;
  o.embed = "transformer.wte";
  o.layers = "transformer.blocks";
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = norm(w, "transformer.norm_f");
  return decoder(w, std::move(o), block);
}

// Published: the rows of all experts in one matrix, the last one's transposed.
// MLX: one matrix an expert.
std::vector<Rule> dbrx_rules(const Fields& f, const TensorSource&) {
  int experts = f.sub("ffn_config").range("moe_num_experts", 1, 1 << 16);
  auto each = [&](const std::string& to) {
    std::vector<std::string> names;
    for (int i = 0; i < experts; ++i)
      names.push_back("*.ffn.experts." + std::to_string(i) + "." + to);
    return names;
  };
  auto all = [](const std::string& name) { return "*.ffn.switch_mlp." + name; };
  return {
      split("*.ffn.experts.mlp.w1", each("w1.weight")),
      split("*.ffn.experts.mlp.v1", each("v1.weight")),
      split("*.ffn.experts.mlp.w2", each("w2_turned")),
      stack("*.ffn.experts.#.w2_turned", all("turned")),
      move_axis(all("turned"), 1, 2),
      rename(all("turned"), all("down_proj.weight")),
      stack("*.ffn.experts.#.w1.*", all("gate_proj.*")),
      stack("*.ffn.experts.#.v1.*", all("up_proj.*")),
      stack("*.ffn.experts.#.w2.*", all("down_proj.*"))};
}

} // namespace mlxlm::models

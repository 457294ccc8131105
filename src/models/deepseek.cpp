// DeepSeek and its relatives: mixtures of experts with a shared one behind
// leading dense layers; from V2 on latent attention. Mistral 4 and
// GLM-4.7-Flash are built the same way, Youtu without experts. V3.2 and
// GLM-MoE-DSA attend to few tokens, which an indexer chooses.
#include <algorithm>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

using MlaMaker = std::function<MlaOptions(int layer)>;

ModelPtr latent_decoder(
    const Scope& w,
    const Common& c,
    const MlaMaker& options,
    const MlpMaker& mlp) {
  auto block = [&](int i, const Scope& s) {
    auto attention = mla(s / "self_attn", options(i));
    return pre_norm_layer(s, c, std::move(attention), mlp(i, s / "mlp"));
  };
  return decoder(w, c.decoder(w), block);
}

ModelPtr latent_decoder(
    const Scope& w,
    const Common& c,
    const MlaOptions& a,
    const MlpMaker& mlp) {
  return latent_decoder(w, c, MlaMaker([&](int) { return a; }), mlp);
}

// Whether each layer has an indexer of its own; the others do as the last one
// that has.
std::vector<bool> choosing_layers(const Fields& f, int depth) {
  constexpr auto pattern = "index_topk_pattern";
  int every = std::max(f.opt("index_topk_freq", 1), 1);
  int offset = f.opt("index_skip_topk_offset", 2);
  auto letters = f.has(pattern) && f.req<Json>(pattern).is_string()
      ? f.req<std::string>(pattern)
      : "";
  auto listed = f.has(pattern) && letters.empty() ? pattern : "indexer_types";
  auto kinds = layer_types(
      f,
      depth,
      {"full", "shared"},
      [&](int i) {
        if (i < static_cast<int>(letters.size()))
          return letters[i] == 'S' ? "shared" : "full";
        return std::max(i - offset + 1, 0) % every == 0 ? "full" : "shared";
      },
      listed);
  std::vector<bool> out;
  for (const auto& kind : kinds)
    out.push_back(kind == "full");
  if (!out.front())
    fail(
        ErrorKind::config,
        f.where(listed),
        "expected a first layer that is \"full\", found \"shared\"");
  return out;
}

ModelPtr sparse_decoder(const Fields& f, const Scope& w, bool interleaved) {
  auto c = latent_common(f);
  auto a = latent_attention(f, c);
  a.choice = std::make_shared<Choice>();
  IndexerOptions indexer{
      .hidden = c.hidden,
      .q_rank = size_field(f, "q_lora_rank"),
      .heads = f.range("index_n_heads", 1, 1 << 14),
      .head_dim = f.range("index_head_dim", 1, 1 << 13),
      .top_k = size_field(f, "index_topk")};
  indexer.rope = Rope::from(
      f,
      indexer.head_dim,
      {.traditional = f.opt("indexer_rope_interleave", interleaved),
       .dims = a.rope_dim});
  auto own = choosing_layers(f, c.depth);
  auto attention = [&](int i) {
    auto o = a;
    if (i == c.depth || own[i]) o.indexer = indexer;
    return o;
  };
  auto mlp = [&](int i, const Scope& s) { return sigmoid_experts(f, c, i, s); };
  return latent_decoder(w, c, MlaMaker(attention), mlp);
}

} // namespace

// The first: plain attention, softmax weights as they are.
ModelPtr deepseek(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim);
  auto bias = bias_if(f.opt("attention_bias", false));
  auto mlp = deepseek_mlps(f, c, deepseek_mixture(f));
  return plain_decoder(w, c, mlp, [&](int, const Scope&, AttentionOptions& o) {
    o.rope = rope;
    o.bias = o.out_bias = bias;
  });
}

ModelPtr deepseek_v2(const Fields& f, const Scope& w) {
  auto c = latent_common(f);
  auto m = deepseek_mixture(f);
  m.router.routing.scale = f.opt("routed_scaling_factor", 1.0f);
  if (f.opt("topk_method", "greedy") == "group_limited_greedy") {
    m.router.routing.groups = size_field(f, "n_group");
    m.router.routing.top_groups = size_field(f, "topk_group");
  }
  return latent_decoder(w, c, latent_attention(f, c), deepseek_mlps(f, c, m));
}

ModelPtr deepseek_v3(const Fields& f, const Scope& w) {
  auto c = latent_common(f);
  return latent_decoder(
      w, c, latent_attention(f, c), [&](int i, const Scope& s) {
        return sigmoid_experts(f, c, i, s);
      });
}

ModelPtr deepseek_v32(const Fields& f, const Scope& w) {
  return sparse_decoder(f, w, false);
}

ModelPtr glm_moe_dsa(const Fields& f, const Scope& w) {
  return sparse_decoder(f, w, true);
}

// Softmax scores inside groups; queries grow beyond the original context.
ModelPtr mistral4(const Fields& f, const Scope& w) {
  auto c = latent_common(f);
  auto a = latent_attention(f, c);
  auto scaling = f.sub("rope_parameters");
  a.temperature = scaling.opt("llama_4_scaling_beta", 0.0f);
  if (a.temperature != 0)
    a.temperature_length =
        scaling.range("original_max_position_embeddings", 1, 1 << 30);
  auto m = deepseek_mixture(f);
  route_by_pairs(f, m.router.routing);
  return latent_decoder(w, c, a, deepseek_mlps(f, c, m));
}

ModelPtr youtu(const Fields& f, const Scope& w) {
  auto c = latent_common(f, true);
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  return latent_decoder(w, c, latent_attention(f, c), [&](int, const Scope& s) {
    return gated_mlp(s, m);
  });
}

// Layers that take another's choice may still come with an indexer.
std::vector<Rule> sparse_attention_rules(
    const Fields& f,
    const TensorSource& source) {
  auto rules = sigmoid_expert_rules(f, source);
  auto own = choosing_layers(f, f.range("num_hidden_layers", 1, 4096));
  for (std::size_t i = 0; i < own.size(); ++i)
    if (!own[i])
      rules.push_back(
          drop("model.layers." + std::to_string(i) + ".self_attn.indexer.*"));
  return rules;
}

} // namespace mlxlm::models

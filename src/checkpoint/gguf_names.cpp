#include "checkpoint/gguf_names.h"

#include <algorithm>

#include "checkpoint/gguf_config.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

using Names = std::vector<std::pair<std::string_view, std::string_view>>;

// Below `blk.N.` and `model.layers.N.`; whatever follows (weight, bias) stays,
// unless it is named here.
const Names llama_block = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
// Norms on both sides of attention and MLP.
const Names sandwich_block = {
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
};
const Names mixtral_block = {
    {"ffn_gate_inp", "block_sparse_moe.gate"},
    {"ffn_gate_exps", "block_sparse_moe.switch_mlp.gate_proj"},
    {"ffn_up_exps", "block_sparse_moe.switch_mlp.up_proj"},
    {"ffn_down_exps", "block_sparse_moe.switch_mlp.down_proj"},
};
const Names qwen_moe_block = {
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.switch_mlp.gate_proj"},
    {"ffn_up_exps", "mlp.switch_mlp.up_proj"},
    {"ffn_down_exps", "mlp.switch_mlp.down_proj"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
};
// Norms of the MLP named after the attention before it.
const Names post_norm_block = {
    {"post_attention_norm", "post_attention_layernorm"}};
const Names gpt_oss_block = {
    {"attn_sinks.weight", "self_attn.sinks"},
    {"ffn_gate_inp", "mlp.router"},
    {"ffn_gate_exps", "mlp.experts.gate_proj"},
    {"ffn_up_exps", "mlp.experts.up_proj"},
    {"ffn_down_exps", "mlp.experts.down_proj"},
};
const Names deepseek_block = {
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
};
const Names latent_block = {
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"attn_k_b", "self_attn.embed_q"},
    {"attn_v_b", "self_attn.unembed_out"},
};
// Of the layer behind the last, which predicts further tokens.
const Names prediction_block = {
    {"nextn.embed_tokens", "embed_tokens"},
    {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},
    {"nextn.eh_proj", "eh_proj"},
    {"nextn.shared_head_norm", "shared_head.norm"},
    {"nextn.shared_head_head", "shared_head.head"},
};
const Names granite_moe_block = {
    {"ffn_gate_inp", "block_sparse_moe.router.layer"}};
const Names minimax_block = {
    {"exp_probs_b.bias", "block_sparse_moe.e_score_correction_bias"}};
const Names ernie_block = {
    {"exp_probs_b.bias", "mlp.moe_statics.e_score_correction_bias"}};
const Names llama4_block = {
    {"ffn_gate", "feed_forward.gate_proj"},
    {"ffn_up", "feed_forward.up_proj"},
    {"ffn_down", "feed_forward.down_proj"},
    {"ffn_gate_inp", "feed_forward.router"},
    {"ffn_gate_exps", "feed_forward.switch_mlp.gate_proj"},
    {"ffn_up_exps", "feed_forward.switch_mlp.up_proj"},
    {"ffn_down_exps", "feed_forward.switch_mlp.down_proj"},
    {"ffn_gate_shexp", "feed_forward.shared_expert.gate_proj"},
    {"ffn_up_shexp", "feed_forward.shared_expert.up_proj"},
    {"ffn_down_shexp", "feed_forward.shared_expert.down_proj"},
};
const Names glm4_block = {
    {"ffn_up", "mlp.gate_up_proj"},
    {"post_attention_norm", "post_self_attn_layernorm"},
    {"post_ffw_norm", "post_mlp_layernorm"},
};
const Names phi2_block = {
    {"attn_output", "self_attn.dense"},
    {"ffn_up", "mlp.fc1"},
    {"ffn_down", "mlp.fc2"},
};
const Names hunyuan_block = {
    {"attn_q_norm", "self_attn.query_layernorm"},
    {"attn_k_norm", "self_attn.key_layernorm"},
};
const Names phi3_block = {{"ffn_up", "mlp.gate_up_proj"}};
const Names starcoder2_block = {
    {"ffn_up", "mlp.c_fc"},
    {"ffn_down", "mlp.c_proj"}};

struct Architecture {
  std::string_view name; // general.architecture
  std::string_view model_type;
  std::vector<const Names*> blocks; // later ones win
  // Rows of q and k are stored for interleaved rotary pairs.
  bool paired = false;
  // Norm weights are stored with 1 added.
  bool norms_plus_one = false;
  void (*extra)(const GgufConfig&, Json&) = nullptr;
  std::string_view last_norm = "model.norm";
};

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> table = {
      {"llama",
       "llama",
       {&llama_block, &mixtral_block},
       true,
       false,
       llama_extra},
      {"mistral3", "ministral3", {&llama_block}, true, false, mistral3_extra},
      {"smollm3", "smollm3", {&llama_block}, true, false, smollm3_extra},
      {"granite", "granite", {&llama_block}, true, false, granite_extra},
      {"qwen2", "qwen2", {&llama_block}},
      {"qwen2moe",
       "qwen2_moe",
       {&llama_block, &qwen_moe_block},
       false,
       false,
       qwen_moe_extra},
      {"qwen3", "qwen3", {&llama_block}},
      {"qwen3moe",
       "qwen3_moe",
       {&llama_block, &qwen_moe_block},
       false,
       false,
       qwen_moe_extra},
      {"gemma", "gemma", {&llama_block}, false, true, gemma_extra},
      {"gemma2",
       "gemma2",
       {&llama_block, &sandwich_block},
       false,
       true,
       gemma2_extra},
      {"gemma3",
       "gemma3_text",
       {&llama_block, &sandwich_block},
       false,
       true,
       gemma3_extra},
      {"phi3", "phi3", {&llama_block, &phi3_block}, false, false, phi3_extra},
      {"gpt-oss",
       "gpt_oss",
       {&llama_block, &post_norm_block, &gpt_oss_block},
       false,
       false,
       gpt_oss_extra},
      {"olmoe",
       "olmoe",
       {&llama_block, &qwen_moe_block},
       false,
       false,
       olmoe_extra},
      {"granitemoe",
       "granitemoe",
       {&llama_block, &mixtral_block, &granite_moe_block},
       true,
       false,
       granite_moe_extra},
      {"deepseek2",
       "deepseek_v3",
       {&llama_block,
        &qwen_moe_block,
        &deepseek_block,
        &latent_block,
        &prediction_block},
       false,
       false,
       deepseek2_extra},
      {"glm4", "glm4", {&llama_block, &glm4_block}},
      {"glm4moe",
       "glm4_moe",
       {&llama_block,
        &qwen_moe_block,
        &deepseek_block,
        &post_norm_block,
        &prediction_block},
       false,
       false,
       routed_extra},
      {"dots1",
       "dots1",
       {&llama_block, &qwen_moe_block, &deepseek_block},
       false,
       false,
       routed_extra},
      {"minimax-m2",
       "minimax_m2",
       {&llama_block, &mixtral_block, &minimax_block},
       false,
       false,
       minimax_m2_extra},
      {"ernie4_5", "ernie4_5", {&llama_block}},
      {"ernie4_5-moe",
       "ernie4_5_moe",
       {&llama_block, &qwen_moe_block, &deepseek_block, &ernie_block},
       false,
       false,
       ernie_moe_extra},
      {"llama4",
       "llama4_text",
       {&llama_block, &llama4_block},
       false,
       false,
       llama4_extra},
      {"exaone4",
       "exaone4",
       {&llama_block, &sandwich_block},
       false,
       false,
       exaone4_extra},
      {"command-r", "cohere", {&llama_block}, false, false, cohere_extra},
      {"cohere2", "cohere2", {&llama_block}, false, false, cohere_extra},
      {"seed_oss",
       "seed_oss",
       {&llama_block, &post_norm_block},
       false,
       false,
       seed_oss_extra},
      {"stablelm", "stablelm", {&llama_block}, false, false, stablelm_extra},
      {"nemotron", "nemotron", {&llama_block}, false, true, nemotron_extra},
      {"minicpm", "minicpm", {&llama_block}, true, false, minicpm_extra},
      {"internlm2", "llama", {&llama_block}, true},
      {"hunyuan-dense", "hunyuan_v1_dense", {&llama_block, &hunyuan_block}},
      {"olmo", "olmo", {&llama_block}, true, false, olmo_extra},
      {"phi2",
       "phi",
       {&llama_block, &phi2_block},
       false,
       false,
       phi2_extra,
       "model.final_layernorm"},
      {"olmo2",
       "olmo2",
       {&llama_block, &sandwich_block},
       false,
       false,
       olmo2_extra},
      {"starcoder2",
       "starcoder2",
       {&llama_block, &starcoder2_block},
       false,
       false,
       starcoder2_extra},
  };
  return table;
}

const Architecture& architecture_of(const GgufMetadata& metadata) {
  auto name = metadata.req<std::string_view>("general.architecture");
  std::vector<std::string> known;
  for (const auto& row : architectures()) {
    if (row.name == name) return row;
    known.emplace_back(row.name);
  }
  auto near = nearest(name, known);
  fail(
      ErrorKind::weights,
      metadata.where("general.architecture"),
      "expected an architecture that is supported, found \"{}\"; {}: {}",
      printable(name),
      near.empty() ? "there are" : "nearest",
      fmt::join(near.empty() ? known : near, ", "));
}

// Forms that some converters write: an expert a tensor, gate and up in one, q,
// k and v in one where the family has them apart.
std::vector<Rule> plain_forms(const Json& config) {
  std::vector<Rule> rules;
  for (const char* part : {"gate", "up", "down"})
    rules.push_back(stack(
        fmt::format("blk.*.ffn_{}.#.weight", part),
        fmt::format("blk.*.ffn_{}_exps.weight", part)));
  rules.push_back(split(
      "blk.*.ffn_gate_up_exps.weight",
      {"blk.*.ffn_gate_exps.weight", "blk.*.ffn_up_exps.weight"},
      -2));
  if (config.at("model_type") == "phi3") return rules; // wants them together
  const auto width = config.at("head_dim").get<std::int64_t>();
  const auto q = config.at("num_attention_heads").get<std::int64_t>() * width;
  const auto kv = config.at("num_key_value_heads").get<std::int64_t>() * width;
  rules.push_back(
      cut("blk.*.attn_qkv.*",
          {"blk.*.attn_q.*", "blk.*.attn_k.*", "blk.*.attn_v.*"},
          {q, kv, kv}));
  return rules;
}

std::vector<Rule> rules_of(const Architecture& arch, const Json& config) {
  std::vector<Rule> rules = {
      drop("rope_freqs.weight"),
      drop("rope_factors_*.weight"),
      drop("blk.*.attn_rot_embd.*"),
      rename("token_embd.*", "model.embed_tokens.*"),
      rename("output_norm.*", std::string(arch.last_norm) + ".*"),
      rename("output.*", "lm_head.*"),
  };
  std::map<std::string_view, std::string_view> names;
  for (const auto* block : arch.blocks)
    for (auto [from, to] : *block)
      names[from] = to;
  for (auto& rule : plain_forms(config))
    rules.push_back(std::move(rule));
  for (auto [from, to] : names) {
    const bool whole = ends_with(from, ".weight") || ends_with(from, ".bias");
    rules.push_back(rename(
        fmt::format("blk.*.{}{}", from, whole ? "" : ".*"),
        fmt::format("model.layers.*.{}{}", to, whole ? "" : ".*")));
  }
  if (arch.paired) {
    rules.push_back(
        unpair_rows("*.self_attn.q_proj.*", config.at("num_attention_heads")));
    rules.push_back(
        unpair_rows("*.self_attn.k_proj.*", config.at("num_key_value_heads")));
  }
  if (arch.norms_plus_one) rules.push_back(offset("*norm.weight", -1));
  return rules;
}

} // namespace

GgufModel gguf_model(const GgufFile& file) {
  const auto& arch = architecture_of(file.metadata());
  GgufConfig source(file, arch.name);
  Json config = source.common();
  config["model_type"] = arch.model_type;
  if (arch.extra != nullptr) arch.extra(source, config);
  auto rules = rules_of(arch, config);
  return {std::move(config), std::move(rules)};
}

} // namespace mlxlm

// What single architectures' metadata adds to config.json.

#include <cmath>

#include "checkpoint/gguf_config.h"
#include "core/check.h"

namespace mlxlm {
namespace {

// The usual keys of mixtures of experts, by the names of several families.
void add_experts(const GgufConfig& source, Json& config) {
  const auto experts = source.size("expert_count", 1, 65'536);
  for (const char* key :
       {"num_experts", "num_local_experts", "n_routed_experts"})
    config[key] = experts;
  config["num_experts_per_tok"] = source.size("expert_used_count", 1, experts);
  if (auto inner = source.find_size("expert_feed_forward_length", 1))
    config["moe_intermediate_size"] = *inner;
  else
    config["moe_intermediate_size"] = config["intermediate_size"];
}

// DeepSeek's: groups, shared experts, leading dense layers.
void add_routing(const GgufConfig& source, Json& config) {
  add_experts(source, config);
  config["n_shared_experts"] =
      source.find_size("expert_shared_count").value_or(0);
  config["first_k_dense_replace"] =
      source.find_size("leading_dense_block_count").value_or(0);
  const auto groups = source.find_size("expert_group_count", 1).value_or(1);
  config["n_group"] = groups;
  config["topk_group"] =
      source.find_size("expert_group_used_count", 1).value_or(groups);
  config["topk_method"] = groups > 1 ? "group_limited_greedy" : "greedy";
  config["routed_scaling_factor"] =
      source.number("expert_weights_scale").value_or(1);
  config["norm_topk_prob"] = source.flag("expert_weights_norm");
}

// Layers behind the model's own that predict further tokens.
void leave_out_prediction_layers(const GgufConfig& source, Json& config) {
  const auto depth = config["num_hidden_layers"].get<std::int64_t>();
  const auto extra =
      source.find_size("nextn_predict_layers", 0, depth - 1).value_or(0);
  config["num_hidden_layers"] = depth - extra;
  config["num_nextn_predict_layers"] = extra;
}

// One entry a layer: whether it slides. Nothing when the file does not say.
bool add_sliding_layers(const GgufConfig& source, Json& config) {
  const auto key = source.key("attention.sliding_window_pattern");
  if (!source.metadata().is_list(key)) return false;
  Json kinds = Json::array();
  for (bool slides : source.metadata().flags(key))
    kinds.push_back(slides ? "sliding_attention" : "full_attention");
  config["layer_types"] = std::move(kinds);
  return true;
}

} // namespace

void llama_extra(const GgufConfig& source, Json& config) {
  const auto experts = source.find_size("expert_count", 0, 65'536).value_or(0);
  if (experts == 0) return;
  config["model_type"] = "mixtral";
  config["num_local_experts"] = experts;
  config["num_experts_per_tok"] = source.size("expert_used_count", 1, experts);
}

// Ministral 3: queries grow with the position.
void mistral3_extra(const GgufConfig& source, Json& config) {
  const auto scale = source.number("attention.temperature_scale").value_or(0);
  if (scale == 0 || !config.contains("rope_scaling")) return;
  auto rope = config["rope_scaling"];
  rope["rope_theta"] = config["rope_theta"];
  rope["llama_4_scaling_beta"] = scale;
  if (auto log = source.number("rope.scaling.yarn_log_multiplier");
      log.value_or(0) != 0)
    rope["mscale"] = rope["mscale_all_dim"] = *log;
  config.erase("rope_scaling");
  config["rope_parameters"] = std::move(rope);
}

void smollm3_extra(const GgufConfig&, Json& config) {
  config["no_rope_layer_interval"] = 4;
}

void granite_extra(const GgufConfig& source, Json& config) {
  const auto head_dim = config["head_dim"].get<double>();
  config["attention_multiplier"] =
      source.number("attention.scale").value_or(1 / std::sqrt(head_dim));
  config["embedding_multiplier"] = source.number("embedding_scale").value_or(1);
  config["residual_multiplier"] = source.number("residual_scale").value_or(1);
  config["logits_scaling"] = source.number("logit_scale").value_or(1);
}

void qwen_moe_extra(const GgufConfig& source, Json& config) {
  add_experts(source, config);
  const auto* stacked = source.tensor("blk.0.ffn_gate_exps.weight");
  if (!source.find_size("expert_feed_forward_length", 1) &&
      stacked != nullptr && stacked->shape.size() == 3)
    config["moe_intermediate_size"] = stacked->shape[1];
  const auto* shared = source.tensor("blk.0.ffn_gate_shexp.weight");
  if (shared != nullptr && shared->shape.size() == 2)
    config["shared_expert_intermediate_size"] = shared->shape[0];
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = Json::array();
  config["norm_topk_prob"] = config["model_type"] == "qwen3_moe";
}

void gemma_extra(const GgufConfig&, Json& config) {
  config["hidden_activation"] = "gelu_pytorch_tanh";
  config["hidden_act"] = "gelu_pytorch_tanh";
}

namespace {

// The 27B models scale queries by the width of hidden / heads, all others by
// the head's (llama.cpp tells them apart by depth, too).
double query_scalar(const Json& config, int depth_of_27b) {
  if (config["num_hidden_layers"] == depth_of_27b)
    return config["hidden_size"].get<double>() /
        config["num_attention_heads"].get<double>();
  return config["head_dim"].get<double>();
}

} // namespace

void gemma2_extra(const GgufConfig& source, Json& config) {
  gemma_extra(source, config);
  config["query_pre_attn_scalar"] = query_scalar(config, 46);
  config["attn_logit_softcapping"] =
      source.number("attn_logit_softcapping").value_or(50);
  config["final_logit_softcapping"] =
      source.number("final_logit_softcapping").value_or(30);
  if (!config.contains("sliding_window")) config["sliding_window"] = 4096;
}

void gemma3_extra(const GgufConfig& source, Json& config) {
  gemma_extra(source, config);
  config["query_pre_attn_scalar"] = query_scalar(config, 62);
  if (auto cap = source.number("final_logit_softcapping"); cap.value_or(0) > 0)
    config["final_logit_softcapping"] = *cap;
  config["rope_local_base_freq"] =
      source.number("rope.freq_base_swa").value_or(10'000.0);
  const auto pattern_key = source.key("attention.sliding_window_pattern");
  std::int64_t pattern = 6;
  if (source.metadata().has(pattern_key) &&
      !source.metadata().is_list(pattern_key))
    pattern = source.size("attention.sliding_window_pattern", 1, 65'536);
  if (!config.contains("sliding_window")) pattern = 1;
  config["sliding_window_pattern"] = pattern;
  if (config.contains("sliding_window")) add_sliding_layers(source, config);
}

void phi3_extra(const GgufConfig&, Json& config) {
  if (!config.contains("original_max_position_embeddings"))
    config["original_max_position_embeddings"] =
        config["max_position_embeddings"];
}

void olmo_extra(const GgufConfig& source, Json& config) {
  if (auto clip = source.number("attention.clamp_kqv"))
    config["clip_qkv"] = *clip;
}

// Its converter writes four times the width whatever the MLP has.
void phi2_extra(const GgufConfig& source, Json& config) {
  const auto* up = source.tensor("blk.0.ffn_up.weight");
  if (up != nullptr && up->shape.size() == 2)
    config["intermediate_size"] = up->shape[0];
  config["hidden_act"] = "gelu_new";
}

void olmo2_extra(const GgufConfig& source, Json& config) {
  if (!config.contains("sliding_window")) return;
  config["model_type"] = "olmo3";
  if (add_sliding_layers(source, config)) return;
  const auto depth = config["num_hidden_layers"].get<std::int64_t>();
  Json kinds = Json::array();
  for (std::int64_t i = 0; i < depth; ++i)
    kinds.push_back((i + 1) % 4 == 0 ? "full_attention" : "sliding_attention");
  config["layer_types"] = kinds;
}

void starcoder2_extra(const GgufConfig&, Json& config) {
  config["norm_epsilon"] =
      config.contains("layer_norm_eps") ? config["layer_norm_eps"] : Json(1e-5);
  config["use_bias"] = config["mlp_bias"];
  config["hidden_act"] = "gelu_pytorch_tanh";
}

void gpt_oss_extra(const GgufConfig& source, Json& config) {
  add_experts(source, config);
  config["intermediate_size"] = config["moe_intermediate_size"];
  // Published models say so; the file has no key for it.
  if (config.contains("rope_scaling"))
    config["rope_scaling"]["truncate"] = false;
}

void ernie_moe_extra(const GgufConfig& source, Json& config) {
  add_routing(source, config);
  config["moe_num_experts"] = config["num_experts"];
  config["moe_k"] = config["num_experts_per_tok"];
  config["moe_num_shared_experts"] = config["n_shared_experts"];
  config["moe_layer_start_index"] = config["first_k_dense_replace"];
  config["moe_layer_interval"] =
      source.find_size("interleave_moe_layer_step", 1).value_or(1);
  config["use_bias"] = config["attention_bias"];
}

// Chunks, temperature and which layers turn are as in all published models; no
// key says so.
void llama4_extra(const GgufConfig& source, Json& config) {
  add_experts(source, config);
  config["intermediate_size_mlp"] = config["intermediate_size"];
  config["intermediate_size"] = config["moe_intermediate_size"];
  config["interleave_moe_layer_step"] =
      source.find_size("interleave_moe_layer_step", 1).value_or(1);
  config["attention_chunk_size"] = 8192;
  config["no_rope_layer_interval"] = 4;
  // Maverick, of 128 experts, has no norms of q and k.
  config["use_qk_norm"] = config["num_local_experts"] != 128;
}

void olmoe_extra(const GgufConfig& source, Json& config) {
  add_experts(source, config);
  config["norm_topk_prob"] = source.flag("expert_weights_norm");
}

void granite_moe_extra(const GgufConfig& source, Json& config) {
  granite_extra(source, config);
  add_experts(source, config);
}

void routed_extra(const GgufConfig& source, Json& config) {
  add_routing(source, config);
  leave_out_prediction_layers(source, config);
  config["use_qk_norm"] = source.has_tensor("blk.0.attn_q_norm.weight");
}

void deepseek2_extra(const GgufConfig& source, Json& config) {
  add_routing(source, config);
  leave_out_prediction_layers(source, config);
  // 1: softmax, 2: sigmoid.
  const auto gating = source.find_size("expert_gating_func", 0, 2).value_or(1);
  config["model_type"] = gating == 2 ? "deepseek_v3" : "deepseek_v2";
  const auto rope = source.size("rope.dimension_count", 1, 65'536);
  const auto key = source.find_size("attention.key_length_mla", 1)
                       .value_or(source.size("attention.key_length"));
  if (key <= rope)
    fail(
        ErrorKind::weights,
        source.metadata().where(source.key("attention.key_length_mla")),
        "expected more than the {} rotated, found {}",
        rope,
        key);
  config["kv_lora_rank"] = source.size("attention.kv_lora_rank");
  if (auto rank = source.find_size("attention.q_lora_rank");
      rank && source.has_tensor("blk.0.attn_q_a.weight"))
    config["q_lora_rank"] = *rank;
  config["qk_rope_head_dim"] = rope;
  config["qk_nope_head_dim"] = key - rope;
  config["v_head_dim"] = source.find_size("attention.value_length_mla", 1)
                             .value_or(source.size("attention.value_length"));
  config["num_key_value_heads"] = config["num_attention_heads"];
  config["head_dim"] = rope;
  config.erase("partial_rotary_factor");
  if (auto log = source.number("rope.scaling.yarn_log_multiplier");
      log && config.contains("rope_scaling")) {
    config["rope_scaling"]["mscale"] = *log / 0.1;
    config["rope_scaling"]["mscale_all_dim"] = *log / 0.1;
  }
}

void exaone4_extra(const GgufConfig& source, Json& config) {
  if (config.contains("sliding_window")) add_sliding_layers(source, config);
}

void cohere_extra(const GgufConfig& source, Json& config) {
  config["logit_scale"] = source.number("logit_scale").value_or(0.0625);
  config["use_qk_norm"] = source.has_tensor("blk.0.attn_q_norm.weight");
}

void seed_oss_extra(const GgufConfig& source, Json& config) {
  config["attention_out_bias"] = source.has_tensor("blk.0.attn_output.bias");
}

void stablelm_extra(const GgufConfig& source, Json& config) {
  config["use_parallel_residual"] = source.flag("use_parallel_residual");
  config["use_qkv_bias"] = config["attention_bias"];
  config["qk_layernorm"] = source.has_tensor("blk.0.attn_q_norm.weight");
}

void nemotron_extra(const GgufConfig&, Json& config) {
  config["norm_eps"] =
      config.contains("layer_norm_eps") ? config["layer_norm_eps"] : Json(1e-5);
  config["hidden_act"] = "relu2";
}

void minicpm_extra(const GgufConfig& source, Json& config) {
  const auto depth = config["num_hidden_layers"].get<double>();
  config["scale_emb"] = source.number("embedding_scale").value_or(12);
  config["scale_depth"] =
      source.number("residual_scale").value_or(1.4 / std::sqrt(depth)) *
      std::sqrt(depth);
  const auto logits = source.number("logit_scale").value_or(1);
  config["dim_model_base"] = static_cast<std::int64_t>(std::llround(
      config["hidden_size"].get<double>() / std::max(1e-6, logits)));
}

void minimax_m2_extra(const GgufConfig& source, Json& config) {
  add_experts(source, config);
  config["intermediate_size"] = config["moe_intermediate_size"];
  config["rotary_dim"] = source.find_size("rope.dimension_count", 1)
                             .value_or(config["head_dim"].get<std::int64_t>());
  config.erase("partial_rotary_factor");
  config["use_qk_norm"] = source.has_tensor("blk.0.attn_q_norm.weight");
}

} // namespace mlxlm

#include "convert/layout.h"

#include "checkpoint/rewrite.h"
#include "core/strings.h"

namespace mlxlm::converting {

std::span<const Difference> differences() {
  using enum Difference::Kind;
  static const Difference table[] = {
      {"*", column, "*conv1d.weight"},
      {"*", column, "*.conv.conv.weight"},
      {"*", column, "*.conv_1d.weight"},

      {"afmoe", eight_bits, "*router.gate*"},
      {"afmoe", keep_type, "*expert_bias*"},
      {"apertus", scalar, "*.act_fn.*"},
      {"bailing_hybrid", eight_bits, "*mlp.gate.gate_proj"},
      {"bailing_hybrid", keep_type, "*expert_bias*"},
      {"bailing_hybrid", latent, "*.kv_b_proj"},
      {"bailing_hybrid", never, "*attention.embed_q"},
      {"bailing_hybrid", never, "*attention.unembed_out"},
      {"bailing_moe", eight_bits, "*mlp.gate.gate_proj"},
      {"bailing_moe", keep_type, "*expert_bias*"},
      {"bailing_moe_linear", eight_bits, "*mlp.gate.gate_proj"},
      {"bailing_moe_linear", keep_type, "*expert_bias*"},
      {"deepseek", bare, "*.mlp.gate"},
      {"deepseek_v2", bare, "*.mlp.gate"},
      {"deepseek_v3", bare, "*.mlp.gate"},
      {"deepseek_v3", keep_type, "*e_score_correction_bias*"},
      {"deepseek_v3", latent, "*.kv_b_proj"},
      {"deepseek_v32", bare, "*.mlp.gate"},
      {"deepseek_v32", keep_type, "*e_score_correction_bias*"},
      {"deepseek_v32", latent, "*.kv_b_proj"},
      {"dots1", bare, "*.mlp.gate"},
      {"dots1", name, "*.mlp.switch_mlp.*", "*.mlp.experts.*"},
      {"exaone", name, "model.layers.*", "transformer.h.*"},
      {"exaone", name, "model.embed_tokens*", "transformer.wte*"},
      {"exaone", name, "model.norm*", "transformer.ln_f*"},
      {"exaone", name, "*.input_layernorm*", "*.ln_1*"},
      {"exaone", name, "*.post_attention_layernorm*", "*.ln_2*"},
      {"exaone", name, "*.self_attn.o_proj*", "*.attn.attention.out_proj*"},
      {"exaone", name, "*.self_attn.*", "*.attn.attention.*"},
      {"exaone", name, "*.mlp.gate_proj*", "*.mlp.c_fc_0*"},
      {"exaone", name, "*.mlp.up_proj*", "*.mlp.c_fc_1*"},
      {"exaone", name, "*.mlp.down_proj*", "*.mlp.c_proj*"},
      {"exaone_moe", bare, "*.mlp.gate"},
      {"exaone_moe", keep_type, "*e_score_correction_bias*"},
      {"gemma4_text", eight_bits, "*router.proj"},
      {"glm4_moe", bare, "*.mlp.gate"},
      {"glm4_moe", keep_type, "*e_score_correction_bias*"},
      {"glm4_moe_lite", bare, "*.mlp.gate"},
      {"glm4_moe_lite", keep_type, "*e_score_correction_bias*"},
      {"glm4_moe_lite", latent, "*.kv_b_proj"},
      {"glm_moe_dsa", bare, "*.mlp.gate"},
      {"glm_moe_dsa", keep_type, "*e_score_correction_bias*"},
      {"glm_moe_dsa", latent, "*.kv_b_proj"},
      {"gpt_oss", eight_bits, "*router"},
      {"granite", eight_bits, "*self_attn.o_proj"},
      {"granite", eight_bits, "*mlp.down_proj"},
      {"granite", eight_bits, "lm_head"},
      {"granitemoe", eight_bits, "*block_sparse_moe.router.layer"},
      {"granitemoe", eight_bits, "*self_attn.o_proj"},
      {"granitemoe", eight_bits, "*mlp.down_proj"},
      {"granitemoe", eight_bits, "lm_head"},
      {"granitemoehybrid", eight_bits, "*router.layer"},
      {"internlm2", name, "model.embed_tokens*", "model.tok_embeddings*"},
      {"internlm2", name, "lm_head*", "output*"},
      {"internlm2", name, "*.self_attn.*", "*.attention.*"},
      {"internlm2", name, "*.input_layernorm*", "*.attention_norm*"},
      {"internlm2", name, "*.post_attention_layernorm*", "*.ffn_norm*"},
      {"internlm2", name, "*.mlp.gate_proj*", "*.feed_forward.w1*"},
      {"internlm2", name, "*.mlp.down_proj*", "*.feed_forward.w2*"},
      {"internlm2", name, "*.mlp.up_proj*", "*.feed_forward.w3*"},
      {"iquestloopcoder", bare, "*gate_projections.*"},
      {"jamba", eight_bits, "*router"},
      {"kimi_linear", eight_bits, "*mlp.gate"},
      {"kimi_linear", keep_type, "*e_score_correction_bias*"},
      {"kimi_linear", keep_type, "*A_log"},
      {"kimi_linear", keep_type, "*dt_bias"},
      {"kimi_linear", latent, "*.kv_b_proj"},
      {"Klear", eight_bits, "*mlp.gate"},
      {"Klear", keep_type, "*expert_bias*"},
      {"laguna", eight_bits, "*mlp.gate.proj"},
      {"laguna", keep_type, "*e_score_correction_bias*"},
      {"lfm2_moe", eight_bits, "*feed_forward.gate"},
      {"lfm2_moe", keep_type, "*expert_bias*"},
      {"longcat_flash", eight_bits, "*classifier"},
      {"longcat_flash", keep_type, "*e_score_correction_bias*"},
      {"longcat_flash", latent, "*.kv_b_proj"},
      {"mellum", eight_bits, "*mlp.gate"},
      {"mimo_v2_flash", bare, "*.mlp.gate"},
      {"mimo_v2_flash", keep_type, "*e_score_correction_bias*"},
      {"minimax", eight_bits, "*block_sparse_moe.gate"},
      {"minimax", keep_type, "*e_score_correction_bias*"},
      {"minimax_m2", eight_bits, "*block_sparse_moe.gate"},
      {"minimax_m2", keep_type, "*e_score_correction_bias*"},
      {"mistral4", latent, "*.kv_b_proj"},
      {"nemotron", less_one, "*norm.weight"},
      {"nemotron_h", bare, "*.mixer.gate"},
      {"nemotron_h", keep_type, "*e_score_correction_bias*"},
      {"nemotron_h", keep_type, "*A_log*"},
      {"qwen3_5_moe_text", eight_bits, "*mlp.gate"},
      {"qwen3_5_moe_text", eight_bits, "*shared_expert_gate"},
      {"qwen3_5_moe_text", keep_type, "*A_log"},
      {"qwen3_5_text", keep_type, "*A_log"},
      {"qwen3_moe", eight_bits, "*mlp.gate"},
      {"qwen3_next", eight_bits, "*mlp.gate"},
      {"qwen3_next", eight_bits, "*shared_expert_gate"},
      {"rwkv7", eight_bits, "*lora.2*"},
      {"rwkv7", eight_bits, "*embeddings*"},
      {"solar_open", bare, "*.mlp.gate"},
      {"solar_open", keep_type, "*e_score_correction_bias*"},
      {"spark2_5", never, "*self_attn.g_proj"},
      {"step3p5", eight_bits, "*mlp.gate.gate*"},
      {"step3p5", keep_type, "*router_bias*"},

      // What multimodal configs wrap.
      {"gemma3", name, "*", "language_model.*"},
      {"gemma4", name, "*", "language_model.*"},
      {"mistral3", name, "*", "language_model.*"},
      {"qwen3_5", name, "*", "language_model.*"},
      {"qwen3_5_moe", name, "*", "language_model.*"},
  };
  return table;
}

Layout::Layout(std::string model_type, std::string wrapper)
    : model_type_(std::move(model_type)), wrapper_(std::move(wrapper)) {}

bool Layout::mine(const Difference& row) const {
  return row.model_type == "*" || row.model_type == model_type_ ||
      (!wrapper_.empty() && row.model_type == wrapper_);
}

std::string Layout::name(std::string_view ours) const {
  std::string out(ours);
  for (const auto& row : differences())
    if (row.kind == Difference::Kind::name && mine(row))
      if (auto to = substitute(out, row.pattern, row.to)) out = *to;
  return out;
}

bool Layout::is(Difference::Kind kind, std::string_view path) const {
  for (const auto& row : differences())
    if (row.kind == kind && mine(row) && glob_match(row.pattern, path))
      return true;
  return false;
}

} // namespace mlxlm::converting

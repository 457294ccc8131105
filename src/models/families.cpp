#include "models/families.h"

#include <array>

#include "nn/moe.h"

namespace mlxlm::models {

std::span<const Family> families() {
  static const std::array table = {
      Family{"acereason", qwen2},
      Family{"afm7", afm7},
      Family{"afmoe", afmoe, plain_expert_rules},
      Family{"apertus", apertus},
      Family{"baichuan_m1", baichuan_m1},
      Family{"bailing_hybrid", bailing_hybrid, bailing_linear_rules},
      Family{
          "bailing_moe",
          bailing_moe,
          bailing_moe_rules,
          bailing_moe_prediction},
      Family{"bailing_moe_linear", bailing_moe_linear, bailing_linear_rules},
      Family{"bitnet", bitnet},
      Family{"cohere", cohere},
      Family{"cohere2", cohere2},
      Family{"dbrx", dbrx, dbrx_rules},
      Family{"deepseek", deepseek, plain_expert_rules},
      Family{"deepseek_v2", deepseek_v2, sigmoid_expert_rules},
      Family{
          "deepseek_v3",
          deepseek_v3,
          sigmoid_expert_rules,
          next_layer_prediction},
      Family{
          "deepseek_v32",
          deepseek_v32,
          sparse_attention_rules,
          next_layer_prediction},
      Family{"dots1", dots1, sigmoid_expert_rules},
      Family{"ernie4_5", ernie4_5},
      Family{
          "ernie4_5_moe",
          ernie4_5_moe,
          ernie4_5_moe_rules,
          ernie4_5_moe_prediction},
      Family{"exaone", exaone, exaone_rules},
      Family{"exaone4", exaone4},
      Family{"exaone_moe", exaone_moe, exaone_moe_rules, qwen3_next_prediction},
      Family{"falcon_h1", falcon_h1, falcon_h1_rules},
      Family{"falcon_mamba", falcon_mamba, conv_rules},
      Family{"gemma", gemma},
      Family{"gemma2", gemma2},
      Family{"gemma3_text", gemma3},
      Family{"gemma3n_text", gemma3n, gemma3n_rules},
      Family{"gemma4_text", gemma4, gemma4_rules},
      Family{"gemma4_unified_text", gemma4_unified, gemma4_rules},
      Family{"glm", glm},
      Family{"glm4", glm4},
      Family{"glm4_moe", glm4_moe, sigmoid_expert_rules, next_layer_prediction},
      Family{
          "glm4_moe_lite",
          deepseek_v3,
          sigmoid_expert_rules,
          next_layer_prediction},
      Family{
          "glm_moe_dsa",
          glm_moe_dsa,
          sparse_attention_rules,
          next_layer_prediction},
      Family{"gpt2", gpt2, gpt2_rules},
      Family{"gpt_bigcode", gpt_bigcode, gpt_rules},
      Family{"gpt_neox", gpt_neox, gpt_neox_rules},
      Family{"gpt_oss", gpt_oss, gpt_oss_rules},
      Family{"gptj", gptj, gpt_rules},
      Family{"granite", granite},
      Family{"granitemoe", granitemoe, granitemoe_rules},
      Family{"granitemoehybrid", granitemoehybrid, granitemoe_rules},
      Family{"helium", helium},
      Family{"hunyuan", hunyuan, hunyuan_rules},
      Family{"hunyuan_v1_dense", hunyuan_v1_dense},
      Family{"hunyuan_v1_moe", hunyuan_v1_moe, hunyuan_rules},
      Family{"internlm2", internlm2, internlm2_rules},
      Family{"internlm3", internlm3},
      Family{"iquestcoder", llama},
      Family{"iquestloopcoder", iquest},
      Family{"jamba", jamba, jamba_rules},
      Family{
          "joyai_llm_flash",
          deepseek_v3,
          sigmoid_expert_rules,
          next_layer_prediction},
      Family{
          "kimi_k2", deepseek_v3, sigmoid_expert_rules, next_layer_prediction},
      Family{"kimi_linear", kimi_linear, kimi_linear_rules},
      Family{"Klear", klear, plain_expert_rules},
      Family{"laguna", laguna, laguna_rules},
      Family{"lfm2", lfm2, lfm2_rules},
      Family{"lfm2_moe", lfm2_moe, lfm2_rules},
      Family{"lille-130m", lille, lille_rules},
      Family{"llama", llama},
      Family{"llama4_text", llama4, llama4_rules},
      Family{
          "longcat_flash",
          longcat_flash,
          longcat_flash_rules,
          longcat_flash_prediction},
      Family{"mamba", mamba, conv_rules},
      Family{"mamba2", mamba2, conv_rules},
      Family{"mellum", mellum, plain_expert_rules},
      Family{"mimo", mimo, mimo_rules, mimo_prediction},
      Family{
          "mimo_v2_flash",
          mimo_v2_flash,
          mimo_v2_flash_rules,
          mimo_v2_flash_prediction},
      Family{"minicpm", minicpm},
      Family{"minicpm3", minicpm3},
      Family{"minimax", minimax, minimax_rules},
      Family{"minimax_m2", minimax_m2, minimax_m2_rules},
      Family{"ministral", mistral},
      Family{"ministral3", mistral},
      Family{"mistral", mistral},
      Family{"mistral4", mistral4, sigmoid_expert_rules},
      Family{"mixtral", mixtral, mixtral_rules},
      Family{"nanbeige", nanbeige},
      Family{"nanochat", nanochat, nanochat_rules},
      Family{"nemotron", nemotron, nemotron_rules},
      Family{"nemotron-nas", nemotron_nas},
      Family{"nemotron_h", nemotron_h, nemotron_h_rules, nemotron_h_prediction},
      Family{"olmo", olmo},
      Family{"olmo2", olmo2},
      Family{"olmo3", olmo2},
      Family{"olmo_hybrid", olmo_hybrid, olmo_hybrid_rules},
      Family{"olmoe", olmoe, plain_expert_rules},
      Family{"openelm", openelm, openelm_rules},
      Family{"phi", phi},
      Family{"phi-msft", phixtral, phixtral_rules},
      Family{"phi3", phi3},
      Family{"phimoe", phimoe, mixtral_rules},
      Family{"phixtral", phixtral, phixtral_rules},
      Family{"plamo", plamo},
      Family{"plamo2", plamo2, plamo2_rules},
      Family{"plamo3", plamo3},
      Family{"qwen", qwen, qwen_rules},
      Family{"qwen2", qwen2},
      Family{"qwen2_moe", qwen2_moe, plain_expert_rules},
      Family{"qwen3", qwen3},
      Family{
          "qwen3_5_moe_text",
          qwen3_next,
          qwen3_next_rules,
          qwen3_next_prediction},
      Family{
          "qwen3_5_text", qwen3_next, qwen3_next_rules, qwen3_next_prediction},
      Family{"qwen3_moe", qwen3_moe, plain_expert_rules},
      Family{"qwen3_next", qwen3_next, qwen3_next_rules, qwen3_next_prediction},
      Family{"recurrent_gemma", recurrent_gemma, recurrent_gemma_rules},
      Family{"rwkv7", rwkv7, rwkv7_rules},
      Family{"seed_oss", seed_oss},
      Family{"smollm3", smollm3},
      Family{"solar_open", solar_open, sigmoid_expert_rules},
      Family{"spark2_5", spark, spark_rules},
      Family{"stablelm", stablelm},
      Family{"starcoder2", starcoder2},
      Family{"step3p5", step3p5, step3p5_rules, step3p5_prediction},
      Family{"talkie", talkie, talkie_rules},
      Family{"telechat3", llama},
      Family{"xverse", llama},
      Family{"youtu", youtu},
      Family{"youtu_llm", youtu},
  };
  return table;
}

std::span<const Family> assistants() {
  static const std::array table = {
      Family{"gemma4_assistant", gemma4_assistant, gemma4_assistant_rules},
      Family{
          "gemma4_unified_assistant", gemma4_assistant, gemma4_assistant_rules},
  };
  return table;
}

std::span<const Wrapper> wrappers() {
  static const std::array table = {
      Wrapper{"gemma3", "gemma3_text"},
      Wrapper{"kimi_k25", "deepseek_v3"},
      Wrapper{"kimi_vl", "deepseek_v3"},
      Wrapper{"llama4", "llama4_text"},
      Wrapper{"gemma3n", "gemma3n_text"},
      Wrapper{"gemma4", "gemma4_text"},
      Wrapper{"gemma4_unified", "gemma4_unified_text"},
      Wrapper{"mistral3", "mistral"},
      Wrapper{"qwen3_5", "qwen3_5_text"},
      Wrapper{"qwen3_5_moe", "qwen3_5_moe_text"},
  };
  return table;
}

std::vector<Rule> plain_expert_rules(const Fields& f, const TensorSource&) {
  auto inner = f.range("intermediate_size", 0, 0, 1 << 30);
  // Fused experts come with inputs as rows as well.
  std::vector<Rule> rules = {
      orient("*.experts.gate_up_proj", f.range("hidden_size", 0, 0, 1 << 30)),
      orient(
          "*.experts.down_proj",
          f.range("moe_intermediate_size", inner, 0, 1 << 30))};
  for (auto& rule : expert_rules())
    rules.push_back(std::move(rule));
  return rules;
}

static const Family* find_in(
    std::span<const Family> table,
    std::string_view model_type) {
  for (const auto& f : table)
    if (f.model_type == model_type) return &f;
  return nullptr;
}

const Family* find_family(std::string_view model_type) {
  return find_in(families(), model_type);
}

const Family* find_assistant(std::string_view model_type) {
  return find_in(assistants(), model_type);
}

const Wrapper* find_wrapper(std::string_view model_type) {
  for (const auto& w : wrappers())
    if (w.model_type == model_type) return &w;
  return nullptr;
}

} // namespace mlxlm::models

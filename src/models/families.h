// The table of families: what builds a model of each `model_type`, and how its
// checkpoints' tensors are renamed first.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/rewrite.h"
#include "checkpoint/tensor.h"
#include "core/fields.h"
#include "nn/model.h"
#include "weights/scope.h"

namespace mlxlm::models {

using Build = ModelPtr (*)(const Fields& f, const Scope& w);
// Most families need none. `source`: the tensors as stored, for layouts that
// only they tell apart.
using Rules =
    std::vector<Rule> (*)(const Fields& f, const TensorSource& source);

// What a family's checkpoints call that which predicts further tokens.
struct PredictionNames {
  std::vector<Rule> rules; // to the names in nn/prediction.h
  std::string first; // a tensor that it has
};
using Prediction = PredictionNames (*)(const Fields& f);

struct Family {
  std::string_view model_type;
  Build build;
  Rules rules = nullptr;
  Prediction prediction = nullptr; // null: none, or not built
};
std::span<const Family> families();
// Null when there is none.
const Family* find_family(std::string_view model_type);

// Those that only guess for another model (Model::caches are what they see of
// that one's memory).
std::span<const Family> assistants();
const Family* find_assistant(std::string_view model_type);

// Text towers of multimodal checkpoints: `model_type` of the wrapper, and the
// family of a `text_config` that names none.
struct Wrapper {
  std::string_view model_type;
  std::string_view text_type;
};
std::span<const Wrapper> wrappers();
const Wrapper* find_wrapper(std::string_view model_type);

// One declaration each; the definitions are the family files.
ModelPtr afm7(const Fields& f, const Scope& w);
ModelPtr afmoe(const Fields& f, const Scope& w);
ModelPtr apertus(const Fields& f, const Scope& w);
ModelPtr baichuan_m1(const Fields& f, const Scope& w);
ModelPtr bailing_hybrid(const Fields& f, const Scope& w);
ModelPtr bailing_moe(const Fields& f, const Scope& w);
ModelPtr bailing_moe_linear(const Fields& f, const Scope& w);
ModelPtr bitnet(const Fields& f, const Scope& w);
ModelPtr cohere(const Fields& f, const Scope& w);
ModelPtr cohere2(const Fields& f, const Scope& w);
ModelPtr dbrx(const Fields& f, const Scope& w);
ModelPtr deepseek(const Fields& f, const Scope& w);
ModelPtr deepseek_v2(const Fields& f, const Scope& w);
ModelPtr deepseek_v3(const Fields& f, const Scope& w);
ModelPtr deepseek_v32(const Fields& f, const Scope& w);
ModelPtr dots1(const Fields& f, const Scope& w);
ModelPtr ernie4_5(const Fields& f, const Scope& w);
ModelPtr ernie4_5_moe(const Fields& f, const Scope& w);
ModelPtr exaone(const Fields& f, const Scope& w);
ModelPtr exaone4(const Fields& f, const Scope& w);
ModelPtr exaone_moe(const Fields& f, const Scope& w);
ModelPtr falcon_h1(const Fields& f, const Scope& w);
ModelPtr falcon_mamba(const Fields& f, const Scope& w);
ModelPtr gemma(const Fields& f, const Scope& w);
ModelPtr gemma2(const Fields& f, const Scope& w);
ModelPtr gemma3(const Fields& f, const Scope& w);
ModelPtr gemma3n(const Fields& f, const Scope& w);
ModelPtr gemma4(const Fields& f, const Scope& w);
ModelPtr gemma4_assistant(const Fields& f, const Scope& w);
ModelPtr gemma4_unified(const Fields& f, const Scope& w);
ModelPtr glm(const Fields& f, const Scope& w);
ModelPtr glm4(const Fields& f, const Scope& w);
ModelPtr glm4_moe(const Fields& f, const Scope& w);
ModelPtr glm_moe_dsa(const Fields& f, const Scope& w);
ModelPtr gpt2(const Fields& f, const Scope& w);
ModelPtr gpt_bigcode(const Fields& f, const Scope& w);
ModelPtr gpt_neox(const Fields& f, const Scope& w);
ModelPtr gpt_oss(const Fields& f, const Scope& w);
ModelPtr gptj(const Fields& f, const Scope& w);
ModelPtr granite(const Fields& f, const Scope& w);
ModelPtr granitemoe(const Fields& f, const Scope& w);
ModelPtr granitemoehybrid(const Fields& f, const Scope& w);
ModelPtr helium(const Fields& f, const Scope& w);
ModelPtr hunyuan(const Fields& f, const Scope& w);
ModelPtr hunyuan_v1_dense(const Fields& f, const Scope& w);
ModelPtr hunyuan_v1_moe(const Fields& f, const Scope& w);
ModelPtr internlm2(const Fields& f, const Scope& w);
ModelPtr internlm3(const Fields& f, const Scope& w);
ModelPtr iquest(const Fields& f, const Scope& w);
ModelPtr jamba(const Fields& f, const Scope& w);
ModelPtr kimi_linear(const Fields& f, const Scope& w);
ModelPtr klear(const Fields& f, const Scope& w);
ModelPtr laguna(const Fields& f, const Scope& w);
ModelPtr lfm2(const Fields& f, const Scope& w);
ModelPtr lfm2_moe(const Fields& f, const Scope& w);
ModelPtr lille(const Fields& f, const Scope& w);
ModelPtr llama(const Fields& f, const Scope& w);
ModelPtr llama4(const Fields& f, const Scope& w);
ModelPtr longcat_flash(const Fields& f, const Scope& w);
ModelPtr mamba(const Fields& f, const Scope& w);
ModelPtr mamba2(const Fields& f, const Scope& w);
ModelPtr mellum(const Fields& f, const Scope& w);
ModelPtr mimo(const Fields& f, const Scope& w);
ModelPtr mimo_v2_flash(const Fields& f, const Scope& w);
ModelPtr minicpm(const Fields& f, const Scope& w);
ModelPtr minicpm3(const Fields& f, const Scope& w);
ModelPtr minimax(const Fields& f, const Scope& w);
ModelPtr minimax_m2(const Fields& f, const Scope& w);
ModelPtr mistral(const Fields& f, const Scope& w);
ModelPtr mistral4(const Fields& f, const Scope& w);
ModelPtr mixtral(const Fields& f, const Scope& w);
ModelPtr nanbeige(const Fields& f, const Scope& w);
ModelPtr nanochat(const Fields& f, const Scope& w);
ModelPtr nemotron(const Fields& f, const Scope& w);
ModelPtr nemotron_h(const Fields& f, const Scope& w);
ModelPtr nemotron_nas(const Fields& f, const Scope& w);
ModelPtr olmo(const Fields& f, const Scope& w);
ModelPtr olmo2(const Fields& f, const Scope& w);
ModelPtr olmo_hybrid(const Fields& f, const Scope& w);
ModelPtr olmoe(const Fields& f, const Scope& w);
ModelPtr openelm(const Fields& f, const Scope& w);
ModelPtr phi(const Fields& f, const Scope& w);
ModelPtr phi3(const Fields& f, const Scope& w);
ModelPtr phimoe(const Fields& f, const Scope& w);
ModelPtr phixtral(const Fields& f, const Scope& w);
ModelPtr plamo(const Fields& f, const Scope& w);
ModelPtr plamo2(const Fields& f, const Scope& w);
ModelPtr plamo3(const Fields& f, const Scope& w);
ModelPtr qwen(const Fields& f, const Scope& w);
ModelPtr qwen2(const Fields& f, const Scope& w);
ModelPtr qwen2_moe(const Fields& f, const Scope& w);
ModelPtr qwen3(const Fields& f, const Scope& w);
ModelPtr qwen3_moe(const Fields& f, const Scope& w);
ModelPtr qwen3_next(const Fields& f, const Scope& w);
ModelPtr recurrent_gemma(const Fields& f, const Scope& w);
ModelPtr rwkv7(const Fields& f, const Scope& w);
ModelPtr seed_oss(const Fields& f, const Scope& w);
ModelPtr smollm3(const Fields& f, const Scope& w);
ModelPtr solar_open(const Fields& f, const Scope& w);
ModelPtr spark(const Fields& f, const Scope& w);
ModelPtr stablelm(const Fields& f, const Scope& w);
ModelPtr starcoder2(const Fields& f, const Scope& w);
ModelPtr step3p5(const Fields& f, const Scope& w);
ModelPtr talkie(const Fields& f, const Scope& w);
ModelPtr youtu(const Fields& f, const Scope& w);

PredictionNames bailing_moe_prediction(const Fields& f);
PredictionNames ernie4_5_moe_prediction(const Fields& f);
PredictionNames longcat_flash_prediction(const Fields& f);
PredictionNames mimo_prediction(const Fields& f);
PredictionNames mimo_v2_flash_prediction(const Fields& f);
PredictionNames nemotron_h_prediction(const Fields& f);
// As DeepSeek-V3 has it: the layer behind the last one. Its embedding is the
// model's.
PredictionNames next_layer_prediction(const Fields& f);
// Qwen3-Next and EXAONE-MoE call it `mtp`.
PredictionNames qwen3_next_prediction(const Fields& f);
PredictionNames step3p5_prediction(const Fields& f);

std::vector<Rule> bailing_linear_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> conv_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> exaone_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> falcon_h1_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> gpt_oss_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> granitemoe_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> internlm2_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> jamba_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> kimi_linear_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> lfm2_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> mimo_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> minimax_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> mixtral_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> nemotron_h_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> nemotron_rules(const Fields& f, const TensorSource& source);
// Of checkpoints with `experts.#.gate_proj` and so on.
std::vector<Rule> plain_expert_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> olmo_hybrid_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> plamo2_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> qwen3_next_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> sigmoid_expert_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> longcat_flash_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> bailing_moe_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> ernie4_5_moe_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> exaone_moe_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> dbrx_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> hunyuan_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> laguna_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> minimax_m2_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> phixtral_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> mimo_v2_flash_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> recurrent_gemma_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> rwkv7_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> step3p5_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> llama4_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> gpt2_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> gpt_neox_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> gpt_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> lille_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> nanochat_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> openelm_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> qwen_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> spark_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> talkie_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> gemma3n_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> gemma4_assistant_rules(
    const Fields& f,
    const TensorSource& source);
std::vector<Rule> gemma4_rules(const Fields& f, const TensorSource& source);
std::vector<Rule> sparse_attention_rules(
    const Fields& f,
    const TensorSource& source);

} // namespace mlxlm::models

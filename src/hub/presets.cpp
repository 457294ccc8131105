#include "hub/presets.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace mlxlm::hub {

namespace {

constexpr auto sky = "Why is the sky blue?";
constexpr auto fruit =
    "What is the difference between a fruit and a vegetable?";
constexpr auto translate =
    "Translate the following text into Chinese: Hello, how are you?";

} // namespace

std::span<const Preset> presets() {
  static const std::array table = {
      Preset{
          "mlx-community/CodeLlama-13b-Instruct-hf-4bit-MLX",
          "func sortArray(_ array: [Int]) -> String { <FILL_ME> }"},
      Preset{
          "mlx-community/DeepSeek-R1-Distill-Qwen-7B-4bit",
          "Is 9.9 greater or 9.11?"},
      Preset{
          "tiiuae/Falcon-H1R-7B",
          "If the product of two numbers is 360 and their GCD is 6, what is their LCM?"},
      Preset{
          "mlx-community/quantized-gemma-2b-it",
          "what is the difference between lettuce and cabbage?"},
      Preset{
          "mlx-community/gemma-2-2b-it-4bit",
          "What is the difference between lettuce and cabbage?"},
      Preset{
          "mlx-community/gemma-2-9b-it-4bit",
          "What is the difference between lettuce and cabbage?"},
      Preset{"mlx-community/gemma-3-1b-it-qat-4bit", fruit, {"<end_of_turn>"}},
      Preset{"mlx-community/gemma-3n-E4B-it-lm-bf16", fruit, {"<end_of_turn>"}},
      Preset{"mlx-community/gemma-3n-E2B-it-lm-bf16", fruit, {"<end_of_turn>"}},
      Preset{"mlx-community/gemma-3n-E4B-it-lm-4bit", fruit, {"<end_of_turn>"}},
      Preset{"mlx-community/gemma-3n-E2B-it-lm-4bit", fruit, {"<end_of_turn>"}},
      Preset{"mlx-community/gemma-4-e4b-it-4bit", fruit, {"<turn|>"}},
      Preset{"mlx-community/gemma-4-e2b-it-4bit", fruit, {"<turn|>"}},
      Preset{"mlx-community/Hunyuan-MT-7B-4bit", translate},
      Preset{"mlx-community/Hunyuan-MT-7B-8bit", translate},
      Preset{"mlx-community/Hy-MT2-7B-4bit", translate},
      Preset{"mlx-community/Hy-MT2-7B-8bit", translate},
      Preset{"mlx-community/granite-3.3-2b-instruct-4bit", ""},
      Preset{"mlx-community/Granite-4.0-H-Tiny-4bit-DWQ", ""},
      Preset{
          "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit",
          fruit,
          {"<|eot_id|>"}},
      Preset{"mlx-community/Llama-3.2-1B-Instruct-4bit", fruit, {"<|eot_id|>"}},
      Preset{"mlx-community/Llama-3.2-3B-Instruct-4bit", fruit, {"<|eot_id|>"}},
      Preset{
          "mlx-community/Meta-Llama-3-8B-Instruct-4bit", fruit, {"<|eot_id|>"}},
      Preset{
          "mlx-community/Mistral-7B-Instruct-v0.3-4bit",
          "Describe the Swift language."},
      Preset{
          "mlx-community/Mistral-Nemo-Instruct-2407-4bit",
          "Explain quaternions."},
      Preset{
          "mlx-community/OpenELM-270M-Instruct", "Once upon a time there was"},
      Preset{
          "mlx-community/Phi-3.5-MoE-instruct-4bit",
          "What is the gravity on Mars and the moon?",
          {"<|end|>"}},
      Preset{
          "mlx-community/Phi-3.5-mini-instruct-4bit",
          "What is the gravity on Mars and the moon?",
          {"<|end|>"}},
      Preset{"mlx-community/phi-2-hf-4bit-mlx", sky},
      Preset{
          "mlx-community/Qwen1.5-0.5B-Chat-4bit",
          "why is the sky blue?",
          {"<|im_end|>"}},
      Preset{"mlx-community/Qwen2.5-7B-Instruct-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen2.5-1.5B-Instruct-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3-0.6B-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3-1.7B-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3-4B-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3-8B-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3-30B-A3B-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3.5-2B-4bit", sky, {"<|im_end|>"}},
      Preset{"mlx-community/Qwen3.6-27B-4bit", sky, {"<|im_end|>"}},
      Preset{
          "mlx-community/SmolLM-135M-Instruct-4bit",
          "Tell me about the history of Spain."},
      Preset{
          "mlx-community/DeepSeek-R1-4bit",
          "Tell me about the history of Spain."},
      Preset{"mlx-community/MiMo-7B-SFT-4bit", sky},
      Preset{"mlx-community/GLM-4-9B-0414-4bit", sky},
      Preset{"mlx-community/AceReason-Nemotron-7B-4bit", ""},
      Preset{"mlx-community/bitnet-b1.58-2B-4T-4bit", sky},
      Preset{"mlx-community/SmolLM3-3B-4bit", sky},
      Preset{"mlx-community/ERNIE-4.5-0.3B-PT-bf16-ft", sky},
      Preset{"mlx-community/LFM2-1.2B-4bit", sky},
      Preset{"mlx-community/Baichuan-M1-14B-Instruct-4bit-ft", sky},
      Preset{"mlx-community/exaone-4.0-1.2b-4bit", sky},
      Preset{"mlx-community/lille-130m-instruct-bf16", sky},
      Preset{"mlx-community/OLMoE-1B-7B-0125-Instruct-4bit", sky},
      Preset{"mlx-community/OLMo-2-1124-7B-Instruct-4bit", sky},
      Preset{"mlx-community/Ling-mini-2.0-2bit-DWQ", sky},
      Preset{"mlx-community/LFM2-8B-A1B-3bit-MLX", ""},
      Preset{"dnakov/nanochat-d20-mlx", ""},
      Preset{"mlx-community/gpt-oss-20b-MXFP4-Q8", sky},
      Preset{"mlx-community/AI21-Jamba-Reasoning-3B-4bit", ""},
      Preset{
          "mlx-community/Nemotron-Labs-Diffusion-3B-4bit",
          "Explain quaternions."},
  };
  return table;
}

const Preset* preset_of(std::string_view reference) {
  std::string id(reference.substr(0, reference.find('@')));
  // .../models--org--name/snapshots/...
  constexpr std::string_view mark = "models--";
  auto at = id.rfind(mark);
  if (at != std::string::npos && (at == 0 || id[at - 1] == '/')) {
    auto folder = std::string_view(id).substr(at + mark.size());
    folder = folder.substr(0, folder.find('/'));
    auto between = std::min(folder.find("--"), folder.size());
    auto name = folder.substr(std::min(between + 2, folder.size()));
    id = fmt::format("{}/{}", folder.substr(0, between), name);
  }
  for (const auto& p : presets())
    if (p.id == id) return &p;
  return nullptr;
}

} // namespace mlxlm::hub

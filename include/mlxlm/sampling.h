// How the next token is chosen. The order of the stages is fixed:
//   logit_bias, repetition, presence, frequency penalty -> log-softmax ->
//   top_p -> min_p -> XTC -> top_k -> temperature -> draw
// The filters act on the distribution *before* the temperature (as mlx-lm and
// mlx-swift-lm do; llama.cpp and vLLM temper at other places).
//
//   SamplingParameters p{.temperature = 0.7, .top_p = 0.9f};
#pragma once

#include <optional>
#include <utility>
#include <vector>

namespace mlxlm {

struct SamplingParameters {
  double temperature = 0.6; // 0: the most likely token, lowest index first
  float top_p = 1; // active in (0, 1)
  float min_p = 0; // 0: off
  int top_k = 0; // 0: off
  int min_tokens_to_keep = 1; // of min_p
  float xtc_probability = 0; // 0: off
  float xtc_threshold = 0.1f; // [0, 0.5]
  // Token ids that XTC never removes. Empty: what ends the answer, and
  // newlines.
  std::vector<int> xtc_special_tokens = {};

  // Penalties look at the last `..._context_size` tokens, the prompt's
  // included.
  std::optional<float> repetition_penalty = {}; // > 0; 1 changes nothing
  int repetition_context_size = 20;
  std::optional<float> presence_penalty = {};
  int presence_context_size = 20;
  std::optional<float> frequency_penalty = {};
  int frequency_context_size = 20;
  // {token id, added to its logit}
  std::vector<std::pair<int, float>> logit_bias = {};

  bool greedy() const {
    return temperature == 0;
  }
};

// Throws Error(request) naming the first value out of its range.
void validate(const SamplingParameters& parameters);

} // namespace mlxlm

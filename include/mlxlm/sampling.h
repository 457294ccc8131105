// How the next token is chosen. The order of the stages, unless `chain` gives
// another:
//   logit_bias, min_tokens, repetition, presence, frequency
//   penalty, DRY -> log-softmax -> top_n_sigma -> typical_p -> top_p -> min_p
//   -> XTC -> top_k -> mirostat -> temperature -> draw
// The filters act on the distribution *before* the temperature (as mlx-lm and
// mlx-swift-lm do; llama.cpp and vLLM temper at other places).
//
//   SamplingParameters p{.temperature = 0.7, .top_p = 0.9f};
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mlxlm {

struct TokenLogprob {
  int token;
  float logprob;
};

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

  float typical_p = 1; // locally typical sampling; active in (0, 1)
  float top_n_sigma = 0; // standard deviations below the largest; 0: off
  // 1 or 2: the version; keeps the text at `tau` bits of surprise a token. The
  // other filters do not run then (as in llama.cpp), unless `chain` names
  // "mirostat" among them.
  int mirostat = 0;
  float mirostat_tau = 5, mirostat_eta = 0.1f;
  // DRY: multiplier * base^(length - allowed) from logits of tokens that would
  // lengthen a repetition of `allowed_length` tokens or more.
  float dry_multiplier = 0; // 0: off
  float dry_base = 1.75f;
  int dry_allowed_length = 2;
  int dry_penalty_last_n = -1; // tokens looked at; -1: all
  // Texts that repetitions do not reach across. Nothing: line break, colon,
  // double quote and star.
  std::optional<std::vector<std::string>> dry_sequence_breakers = {};
  // Token sequences that have a breaker in them. Empty: looked for in the
  // vocabulary.
  std::vector<std::vector<int>> dry_breaker_tokens = {};
  int min_tokens = 0; // drawn before the answer may end
  // Tokens that end it. Empty: all that would.
  std::vector<int> end_tokens = {};
  // Stages in the order they run, by the names above, "temperature" among
  // them ("penalties": the three); those not named do not run. logit_bias
  // and min_tokens always come first, then stages that change logits. Empty:
  // the order above.
  std::vector<std::string> chain = {};
  int top_logprobs = 0; // report the most likely tokens besides the drawn one

  bool greedy() const {
    return temperature == 0;
  }
};

// Throws Error(request) naming the first value out of its range.
void validate(const SamplingParameters& parameters);

} // namespace mlxlm

// Mirostat (Basu et al. 2021), versions 1 and 2 as in llama.cpp: tokens more
// surprising than `mu` bits are left out, and mu follows how surprising the
// drawn ones were, so that the text stays at mirostat_tau bits a token. On the
// tempered distribution; the sampler keeps mu.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "generate/sampling/stages.h"

namespace mlxlm {
namespace {

constexpr std::size_t tail_tokens = 100; // of which version 1 learns Zipf's s

// How many tokens version 1 keeps. `logits`: tempered, largest first.
std::size_t zipf_count(
    const std::vector<double>& logits,
    std::size_t vocab,
    double mu) {
  double products = 0, squares = 0;
  for (std::size_t i = 0; i + 1 < logits.size(); ++i) {
    double t = std::log(double(i + 2) / double(i + 1));
    products += t * (logits[i] - logits[i + 1]);
    squares += t * t;
  }
  if (!(squares > 0) || !std::isfinite(products)) return 1;
  double s = products / squares, epsilon = s - 1;
  double k = std::pow(
      epsilon * std::pow(2, mu) / (1 - std::pow(double(vocab), -epsilon)),
      1 / s);
  if (!(k >= 1)) return 1;
  return k < double(vocab) ? static_cast<std::size_t>(k) : vocab;
}

} // namespace

void mirostat(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext& context) {
  if (parameters.mirostat == 2) {
    double total = 0;
    for (float logit : d.logits())
      total += std::exp((double(logit) - d.max()) * context.temper);
    // -log2 p <= mu
    double least = std::log(total) - context.mu * std::log(2.0);
    auto threshold = static_cast<float>(d.max() + least / context.temper);
    return d.keep_from(std::min(threshold, d.max()));
  }
  auto count = std::min(tail_tokens, d.size());
  float tail = rank_threshold(d, count);
  std::vector<double> logits;
  for (float logit : d.logits())
    if (logit >= tail) logits.push_back(double(logit) * context.temper);
  std::sort(logits.begin(), logits.end(), std::greater<>());
  logits.resize(std::min(logits.size(), count));
  auto keep = zipf_count(logits, context.vocab, context.mu);
  d.keep_from(rank_threshold(d, std::min(keep, d.size())));
}

} // namespace mlxlm

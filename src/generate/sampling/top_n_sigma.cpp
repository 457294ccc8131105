// Tokens whose logit is at most n standard deviations below the largest (Tang
// et al. 2024; as in llama.cpp: of the finite logits).
#include <cmath>

#include "generate/sampling/stages.h"

namespace mlxlm {

void top_n_sigma(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext&) {
  double sum = 0, squares = 0;
  std::size_t count = 0;
  for (float logit : d.logits()) {
    if (!std::isfinite(logit)) continue;
    sum += logit;
    ++count;
  }
  double mean = sum / double(count);
  for (float logit : d.logits())
    if (std::isfinite(logit)) squares += (logit - mean) * (logit - mean);
  double sigma = std::sqrt(squares / double(count));
  d.keep_from(static_cast<float>(d.max() - parameters.top_n_sigma * sigma));
}

} // namespace mlxlm

// What a request adds to the logits of tokens.
#include "generate/sampling/stages.h"

namespace mlxlm {

void logit_bias(
    std::span<float> row,
    const SamplingParameters& parameters,
    const StageContext&) {
  for (auto [token, bias] : parameters.logit_bias)
    row[token] += bias;
}

} // namespace mlxlm

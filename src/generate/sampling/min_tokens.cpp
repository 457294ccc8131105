// What ends the answer cannot be drawn before it has min_tokens tokens.
#include <limits>

#include "generate/sampling/stages.h"

namespace mlxlm {

void min_tokens(
    std::span<float> row,
    const SamplingParameters& p,
    const StageContext& context) {
  if (context.drawn >= p.min_tokens) return;
  for (int token : p.end_tokens)
    if (token < static_cast<int>(row.size()))
      row[token] = -std::numeric_limits<float>::infinity();
}

} // namespace mlxlm

// Tokens at least min_p times as likely as the most likely one (Nguyen et al.
// 2024), and always the min_tokens_to_keep most likely.
#include <algorithm>
#include <cmath>

#include "generate/sampling/stages.h"

namespace mlxlm {

void min_p(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext&) {
  float threshold = d.max() + std::log(parameters.min_p);
  auto keep = static_cast<std::size_t>(parameters.min_tokens_to_keep);
  if (keep > 1)
    threshold =
        std::min(threshold, rank_threshold(d, std::min(keep, d.size())));
  d.keep_from(threshold);
}

} // namespace mlxlm

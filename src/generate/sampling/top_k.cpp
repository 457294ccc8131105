// Exactly the k most likely tokens; among equals at the edge the lowest ids.
#include "generate/sampling/stages.h"

namespace mlxlm {

void top_k(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext&) {
  auto k = static_cast<std::size_t>(parameters.top_k);
  if (k >= d.size()) return;
  float edge = rank_threshold(d, k);
  auto logits = d.logits();
  std::size_t above = 0;
  for (float logit : logits)
    above += logit > edge;
  auto room = k - above; // for those equal to the edge
  d.keep_if([&, x = logits.data()](std::size_t i) {
    if (x[i] != edge) return x[i] > edge;
    return room > 0 && room-- > 0;
  });
}

} // namespace mlxlm

// Exclude top choices: of the tokens more likely than the threshold all but the
// least likely go, now and then (xtc_probability). Special tokens never go.
#include <algorithm>
#include <limits>

#include "generate/sampling/fast_exp.h"
#include "generate/sampling/philox.h"
#include "generate/sampling/stages.h"

namespace mlxlm {

void xtc(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext& context) {
  double draw = uniform(
      context.seed, context.sample, context.position, RandomStream::xtc);
  if (draw >= parameters.xtc_probability) return;

  auto x = d.logits();
  double total = d.mass();
  auto likely = [&](float logit) {
    return exp_nonpositive(logit - d.max()) / total > parameters.xtc_threshold;
  };
  float least = std::numeric_limits<float>::infinity();
  for (float logit : x)
    if (likely(logit)) least = std::min(least, logit);

  const auto& special = parameters.xtc_special_tokens;
  d.keep_if([&, data = x.data()](std::size_t i) {
    if (data[i] <= least) return true;
    return std::find(special.begin(), special.end(), d.token(i)) !=
        special.end();
  });
}

} // namespace mlxlm

// Locally typical sampling (Meister et al. 2023; as in llama.cpp): of the
// tokens in the order of how far their surprise is from the expected one, the
// first whose mass passes typical_p.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "generate/sampling/stages.h"

namespace mlxlm {

void typical_p(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext&) {
  auto x = d.logits();
  double normalizer = d.max() + std::log(d.mass()), entropy = 0;
  std::vector<double> log_p(x.size()), distance(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    log_p[i] = double(x[i]) - normalizer;
    double p = std::exp(log_p[i]);
    if (p > 0) entropy -= p * log_p[i];
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    distance[i] = std::abs(-log_p[i] - entropy);
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return distance[a] < distance[b];
  });
  double mass = 0;
  std::size_t last = 0;
  for (auto least = std::size_t(parameters.min_tokens_to_keep);
       last < order.size();) {
    mass += std::exp(log_p[order[last]]);
    ++last;
    if (mass > parameters.typical_p && last >= least) break;
  }
  std::vector<bool> kept(x.size());
  for (std::size_t i = 0; i < last; ++i)
    kept[order[i]] = true;
  d.keep_if([&](std::size_t i) { return kept[i]; });
}

} // namespace mlxlm

// Nucleus sampling (Holtzman et al. 2020): the smallest set of most likely
// tokens whose mass before its last member is below top_p; ties with the last
// stay.
#include "generate/sampling/stages.h"

namespace mlxlm {

void top_p(
    Distribution& d,
    const SamplingParameters& parameters,
    const StageContext&) {
  d.keep_from(mass_threshold(d, parameters.top_p));
}

} // namespace mlxlm

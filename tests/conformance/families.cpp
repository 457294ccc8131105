// The families whose cases can be run. One row each.
#include <vector>

#include "conformance.h"

namespace mlxlm::conformance {

std::span<const Family> families() {
  static const std::vector<Family> table = {
      {"samplers", sampler_case},
      // {"text", text_case},
  };
  return table;
}

} // namespace mlxlm::conformance

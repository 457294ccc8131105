// What the kinds of case of the family `turboquant` share.
#pragma once

#include <mlx/array.h>

#include "conformance.h"
#include "golden.h"
#include "runtime/kernels/attention/row_coder.h"

namespace mlxlm::conformance {

namespace mx = mlx::core;

Outcome turbo_codebook_case(const Case&);
Outcome turbo_transform_case(const Case&);
Outcome turbo_packing_case(const Case&);

// Of a golden file, as uint32.
mx::array uint32_array(const GoldenTensor& t);

} // namespace mlxlm::conformance

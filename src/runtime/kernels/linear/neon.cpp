// ARM without byte dot products.
#include "runtime/kernels/linear/target.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "runtime/kernels/linear/floats.h"

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 4;

#include "runtime/kernels/linear/target-inl.h"

#include "runtime/kernels/linear/neon-inl.h"

#include "runtime/kernels/linear/simd-inl.h"

#include "runtime/kernels/linear/madd-inl.h"

#include "runtime/kernels/linear/panel-inl.h"

bool supported() {
  return true;
}

} // namespace

const Target neon_target = {
    "neon",
    supported,
    record,
    record,
    most_tile,
    quantize<record, record>,
    panel<record, record>,
    gate};

} // namespace mlxlm::kernels
#endif

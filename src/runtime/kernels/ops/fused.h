// The CPU primitives of the small operations; arguments are checked by ops.cpp.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <utility>

#include "runtime/kernels/ops.h"
#include "runtime/kernels/ops/rows.h"

namespace mlxlm::kernels::fused {

mx::array rms_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    float eps,
    float offset);
std::pair<mx::array, mx::array> add_rms_norm(
    const mx::array& x,
    const mx::array& residual,
    const std::optional<mx::array>& weight,
    float eps,
    float offset);
mx::array layer_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    const std::optional<mx::array>& bias,
    float eps);
std::vector<mx::array> rope(
    const std::vector<RopeInput>& inputs,
    const mx::array& positions,
    const mx::array& inv_freq,
    const RopeShape& shape);
mx::array glu(Activation act, const mx::array& gate, const mx::array& up);
std::pair<mx::array, mx::array> top_k(const mx::array& x, int k);

} // namespace mlxlm::kernels::fused

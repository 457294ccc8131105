// Several linears as one primitive where every weight is a packed CPU matrix;
// the plain form for every other kernel (GPU, LoRA). Blocks call these and
// never ask.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <string_view>
#include <vector>

#include "core/fields.h"
#include "runtime/kernels/activation.h"
#include "weights/linear.h"

namespace mlxlm {

// One result for each linear, all of the same x.
std::vector<mx::array> linears(
    const mx::array& x,
    const std::vector<Linear>& layers);

// "silu", "gelu_pytorch_tanh", "gelu", "relu2" ... under `key`.
Activation activation(
    const Fields& f,
    std::string_view key,
    const char* fallback);
mx::array apply(Activation act, const mx::array& x);
// act(gate) * up
mx::array gate_up(Activation act, const mx::array& gate, const mx::array& up);
// act(gate(x)) * up(x)
mx::array gated(
    Activation act,
    const mx::array& x,
    const Linear& gate,
    const Linear& up);

} // namespace mlxlm

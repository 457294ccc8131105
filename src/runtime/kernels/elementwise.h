// Sums, scalings, activations and gates of whole arrays, each one function with
// a plain MLX reference beside it. On CPU they are kernels that a recorded pass
// can do again.
#pragma once

#include <mlx/array.h>

#include "runtime/kernels/activation.h"

namespace mlxlm::kernels {

namespace mx = mlx::core;

// a + b, of one shape and type.
mx::array add(const mx::array& a, const mx::array& b);
// x times a number, which is rounded to x's type first.
mx::array scaled(const mx::array& x, float factor);
// The activation of every value, computed in f32.
mx::array activated(Activation act, const mx::array& x);
// a * b, of one shape and type.
mx::array multiplied(const mx::array& a, const mx::array& b);
// x * sigmoid(gate), of one type; one shape, or one gate for each row of x.
mx::array gated_by(const mx::array& x, const mx::array& gate);
// Sum over k of parts [T, k, H] * weights [T, k] f32 in parts' type: what the
// chosen experts give together.
mx::array weighted_sum(const mx::array& parts, const mx::array& weights);

namespace reference {
mx::array activated(Activation act, const mx::array& x);
mx::array weighted_sum(const mx::array& parts, const mx::array& weights);
} // namespace reference

} // namespace mlxlm::kernels

// How a weight matrix multiplies once it is read: by our packed CPU kernels, or
// as MLX arrays (GPUs, and tests of those forms on the CPU).
#pragma once

#include <optional>
#include <string>

#include "weights/format.h"
#include "weights/linear.h"

namespace mlxlm {

// Rows [begin, end) of every expert of `matrix`.
EncodedMatrix row_range(const EncodedMatrix& matrix, int begin, int end);

// The same values as float32.
EncodedMatrix dequantized(const EncodedMatrix& matrix);

// Repacked for the CPU; `bias`: [rows] or [experts, rows].
LinearKernelPtr packed_linear(
    const EncodedMatrix& matrix,
    std::optional<mx::array> bias,
    kernels::Activations activations);

// `inner` (without a bias) with the order and factors of `matrix` around it.
LinearKernelPtr framed_linear(
    LinearKernelPtr inner,
    const EncodedMatrix& matrix,
    std::optional<mx::array> bias);

// `base` plus scale * up(down(x)); with a magnitude [out] outputs then get the
// length magnitude / |their row| (DoRA).
struct LowRankLinear {
  LinearKernelPtr down; // [rank, in] or [experts, rank, in]
  LinearKernelPtr up; // [out, rank] or [experts, out, rank]
  float scale;
  std::optional<mx::array> magnitude;
};
LinearKernelPtr adapted_linear(LinearKernelPtr base, LowRankLinear parts);

// How MLX packs the values of a matrix, when it can without changing them:
// nothing for groups of 16, tables other than e2m1, columns out of order,
// factors.
struct MlxPacking {
  std::string mode;
  int group;
  int bits;
};
std::optional<MlxPacking> mlx_packing(const EncodedMatrix& matrix);

// A matrix in MLX's own quantized form.
struct MlxForm {
  mx::array weight; // u32 [..., rows, cols * bits / 32]
  mx::array scales; // [..., rows, cols / group]
  std::optional<mx::array> biases;
  int group;
  int bits;
  std::string mode;
};
// The same values in that form, bit for bit, but for order and factors; nothing
// when there is none.
std::optional<MlxForm> mlx_form(const EncodedMatrix& matrix);

// MLX arrays: the exact quantized form if there is one; otherwise dense, plain
// matrices in `type` and quantized ones in f16.
LinearKernelPtr mlx_linear(
    const EncodedMatrix& matrix,
    std::optional<mx::array> bias,
    mx::Dtype type);

// A shape without values, for a model that is only looked at.
LinearKernelPtr outline_linear(const EncodedMatrix& matrix);

} // namespace mlxlm

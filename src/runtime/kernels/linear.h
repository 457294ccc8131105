// y = x W^T (+ b) for packed matrices, one row of activations or many; CPU
// only. Each output is reduced in the same order whatever the number of rows of
// x (batch-invariant). Differentiable in x: the gradient runs the plain
// reference.
//
// Accuracy: with f32 activations within 1e-4 of the row's largest against the
// f32 reference; `Activations::int8` is the only mode below that.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <vector>

#include "runtime/kernels/activation.h"
#include "runtime/kernels/matrix.h"

namespace mlxlm::kernels {

namespace mx = mlx::core;

enum class Activations { exact, int8 }; // int8: --quantize-activations

// x: [..., cols] f32, f16 or bf16; bias: [rows]. Result [..., rows] in x's
// type.
mx::array linear(
    const mx::array& x,
    const MatrixPtr& w,
    const std::optional<mx::array>& bias = std::nullopt,
    Activations mode = Activations::exact);

// Several matrices on the same input (q, k, v): one pass over x, one primitive.
// `bias` is empty or as long as `w`.
std::vector<mx::array> linears(
    const mx::array& x,
    const std::vector<MatrixPtr>& w,
    const std::vector<std::optional<mx::array>>& bias = {},
    Activations mode = Activations::exact);

// act(x Wg^T) * (x Wu^T), fused behind the two matrices.
mx::array gated_linear(
    const mx::array& x,
    const MatrixPtr& gate,
    const MatrixPtr& up,
    Activation act,
    Activations mode = Activations::exact);

// Mixture of experts: w holds experts; ids [T, k] (int32 or uint32): each
// choice's expert. x: [T, 1, cols] (the same row for every choice) or [T, k,
// cols]. bias: [experts, rows]. Result [T, k, rows].
mx::array gather_linear(
    const mx::array& x,
    const MatrixPtr& w,
    const mx::array& ids,
    const std::optional<mx::array>& bias = std::nullopt,
    Activations mode = Activations::exact);

// Rows of the matrix as values (embedding lookup): ids [...] -> [..., cols] of
// `type`.
mx::array rows(const MatrixPtr& w, const mx::array& ids, mx::Dtype type);

// The matrix as an array [rows, cols] ([experts, rows, cols] when stacked) of
// `type`: for references, autograd, saving and fusing.
mx::array unpack(const MatrixPtr& w, mx::Dtype type);

} // namespace mlxlm::kernels

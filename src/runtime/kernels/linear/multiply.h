// Products of packed matrices with rows of activations in plain memory:
// quantizes the rows once, divides panels and rows among the threads, writes
// results in their type.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "runtime/kernels/linear.h"
#include "runtime/kernels/linear/packed.h"

namespace mlxlm::kernels {

enum class Float : std::uint8_t { f32, f16, bf16 };

struct Values {
  const void* data = nullptr;
  Float type = Float::f32;
};

// One matrix (or one expert of it) on some rows of the activations.
struct Segment {
  const Packed* matrix = nullptr;
  const Packed* up = nullptr; // act(x matrix^T) * (x up^T)
  Activation act = Activation::silu;
  int expert = 0;
  Values bias; // [rows] of the expert; null: none
  int count = 0; // rows of activations
  const int* from = nullptr; // which rows of x; null: 0, 1, ...
  const int* to = nullptr; // which rows of out; null: 0, 1, ...
  void* out = nullptr; // [..., matrix rows] in x's type
};

// x: [rows, cols], contiguous.
void multiply(
    Values x,
    int rows,
    int cols,
    bool int8,
    std::span<const Segment> segments);

void to_floats(Values x, std::size_t offset, std::span<float> out);
void from_floats(
    std::span<const float> x,
    Float type,
    void* out,
    std::size_t offset);

} // namespace mlxlm::kernels

// The ways a row of keys or values can be kept in a page: plain values.
#pragma once

#include <cstdint>

namespace mlxlm::kernels {

// How a row of keys or of values is kept.
struct RowCodec {
  enum class Kind : std::uint8_t { floats, affine, turbo };
  Kind kind = Kind::floats;
  int bits = 0; // affine 2, 3, 4, 5, 6, 8; turbo 1 to 4 (a sketch takes one)
  int group = 64; // affine: values that share a scale and a bias
  bool sketch = false; // turbo keys: a sign sketch of the residual

  bool operator==(const RowCodec&) const = default;
};

} // namespace mlxlm::kernels

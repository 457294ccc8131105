// The functions that gates and feed-forward blocks apply to each value.
#pragma once

#include <cstdint>

namespace mlxlm {

enum class Activation : std::uint8_t {
  silu,
  gelu_tanh,
  gelu_erf,
  relu,
  relu2 // relu(x)^2
};

} // namespace mlxlm

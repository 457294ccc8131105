// Attention over dense keys and values in plain MLX operations: defines the
// result of every attention path and carries the gradient.
#pragma once

#include <mlx/array.h>

#include <optional>

namespace mlxlm::kernels {

namespace mx = mlx::core;

struct AttentionShape {
  float scale = 1;
  float softcap = 0; // 0: none; else cap * tanh(score / cap)
  int window =
      0; // 0: unlimited; else a token sees itself and window - 1 before
  bool chunked = false; // of these, only from the last multiple of `window` on
};

namespace reference {

// q [1, L, H, D] at positions q_first + i; k [1, S, Hkv, D], v [1, S, Hkv, Dv]
// at positions k_first + j; sinks [H]. Causal. Result [1, L, H, Dv] in q's
// type.
mx::array attention(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const AttentionShape& shape,
    const std::optional<mx::array>& sinks,
    int q_first,
    int k_first);

} // namespace reference
} // namespace mlxlm::kernels

// Attention over dense keys and values in plain MLX operations: defines the
// result of every attention path and carries the gradient.
#pragma once

#include <mlx/array.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace mlxlm::kernels {

namespace mx = mlx::core;

struct AttentionShape {
  float scale = 1;
  float softcap = 0; // 0: none; else cap * tanh(score / cap)
  int window =
      0; // 0: unlimited; else a token sees itself and window - 1 before
  bool chunked = false; // of these, only from the last multiple of `window` on
  // With a window: of so many first tokens and the latest ones a token sees
  // `window` in all, itself included. As in mlx-lm's rotating cache the first
  // ones leave one by one within a pass of several tokens.
  int keep = 0;
  bool apart = false; // but each token sees what it would in a pass of its own

  // Where the window of token `index` of a segment begins, and the first of the
  // kept ones it sees beside it; none: at or behind `keep`.
  int window_begin(int offset, int index) const {
    if (window <= 0) return 0;
    int behind = window - 1, place = offset + index;
    if (apart) offset = place, index = 0;
    if (chunked) return place - place % window;
    if (keep == 0 || offset < window)
      return place > behind ? place - behind : 0;
    return offset - (behind - keep) + (index > keep ? index - keep : 0);
  }
  int kept_begin(int offset, int index) const {
    if (apart) offset += index, index = 0;
    return window > 0 && offset >= window ? index : keep;
  }
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
// Keys and values [1, L, Hkv, D] of the queries' own tokens that some see
// instead of those at their positions.
struct OwnRows {
  mx::array k, v;
  std::vector<std::uint8_t> seen; // [L]
};
// The same with keys at any positions, ascending, S of them.
mx::array attention(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const AttentionShape& shape,
    const std::optional<mx::array>& sinks,
    int q_first,
    const std::vector<int>& positions,
    const std::optional<OwnRows>& own = std::nullopt);

} // namespace reference
} // namespace mlxlm::kernels

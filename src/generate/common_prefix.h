// How far two texts agree.
#pragma once

#include <algorithm>
#include <span>

namespace mlxlm {

// Tokens at the beginning of both.
inline int common_prefix(std::span<const int> a, std::span<const int> b) {
  auto ends = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int>(ends.first - a.begin());
}

} // namespace mlxlm

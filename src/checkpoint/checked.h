// Arithmetic on numbers from files: nothing wraps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace mlxlm {

inline std::optional<std::uint64_t> checked_add(
    std::uint64_t a,
    std::uint64_t b) {
  std::uint64_t out;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

inline std::optional<std::uint64_t> checked_mul(
    std::uint64_t a,
    std::uint64_t b) {
  std::uint64_t out;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// The bytes of `shape` (row-major) in blocks of `block` elements and
// `block_bytes` bytes; nothing on overflow of int64 or when the last dimension
// is not whole blocks.
inline std::optional<std::uint64_t> storage_bytes(
    std::span<const std::int64_t> shape,
    int block,
    int block_bytes) {
  constexpr std::uint64_t most = INT64_MAX;
  std::int64_t last = shape.empty() ? 1 : shape.back();
  if (last % block != 0) return std::nullopt;
  std::uint64_t total = 1;
  bool empty = false;
  for (std::int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      empty = true;
      continue; // the other dimensions must still not overflow
    }
    auto product = checked_mul(total, static_cast<std::uint64_t>(dim));
    if (!product || *product > most) return std::nullopt;
    total = *product;
  }
  auto bytes = checked_mul(
      total / static_cast<std::uint64_t>(block),
      static_cast<std::uint64_t>(block_bytes));
  if (!bytes || *bytes > most) return std::nullopt;
  return empty ? 0 : *bytes;
}

} // namespace mlxlm

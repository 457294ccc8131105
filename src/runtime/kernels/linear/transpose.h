// Sixteen rows to sixteen lanes: [16, count] -> [count, 16].
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mlxlm::kernels {

namespace transposing {

using Words = std::uint32_t __attribute__((vector_size(16)));
using Halves = std::uint16_t __attribute__((vector_size(16)));

// The elements of two vectors in turn: of their first and of their last halves.
inline Words low(Words a, Words b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
inline Words high(Words a, Words b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
inline Halves low(Halves a, Halves b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
inline Halves high(Halves a, Halves b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// A square of as many vectors as one has lanes. Each round takes one bit of an
// element's row to its column.
template <typename Vector, int lanes>
void square(Vector (&v)[lanes]) {
  for (int round = 1; round < lanes; round *= 2) {
    Vector next[lanes];
    for (int i = 0; i < lanes / 2; ++i) {
      next[2 * i] = low(v[i], v[i + lanes / 2]);
      next[2 * i + 1] = high(v[i], v[i + lanes / 2]);
    }
    std::memcpy(v, next, sizeof next);
  }
}

template <typename Vector, typename Element>
void rows(
    const std::uint8_t* from,
    std::size_t stride,
    std::size_t count,
    std::uint8_t* to) {
  constexpr int lanes = 16 / sizeof(Element);
  std::size_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    for (int r = 0; r < 16; r += lanes) {
      Vector v[lanes];
      for (int i = 0; i < lanes; ++i) {
        std::memcpy(
            &v[i],
            from + static_cast<std::size_t>(r + i) * stride +
                at * sizeof(Element),
            16);
      }
      square(v);
      for (int i = 0; i < lanes; ++i) {
        std::memcpy(
            to +
                ((at + static_cast<std::size_t>(i)) * 16 +
                 static_cast<std::size_t>(r)) *
                    sizeof(Element),
            &v[i],
            16);
      }
    }
  }
  for (; at < count; ++at) {
    for (std::size_t r = 0; r < 16; ++r) {
      std::memcpy(
          to + (at * 16 + r) * sizeof(Element),
          from + r * stride + at * sizeof(Element),
          sizeof(Element));
    }
  }
}

} // namespace transposing

// Elements of `size` bytes, 1, 2 or 4; `stride`: bytes from row to row.
inline void transpose(
    int size,
    const void* from,
    std::size_t stride,
    std::size_t count,
    void* to) {
  using namespace transposing;
  const auto* in = static_cast<const std::uint8_t*>(from);
  auto* out = static_cast<std::uint8_t*>(to);
  if (size == 4) {
    rows<Words, std::uint32_t>(in, stride, count, out);
  } else if (size == 2) {
    rows<Halves, std::uint16_t>(in, stride, count, out);
  } else {
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t r = 0; r < 16; ++r) {
        out[i * 16 + r] = in[r * stride + i];
      }
    }
  }
}

} // namespace mlxlm::kernels

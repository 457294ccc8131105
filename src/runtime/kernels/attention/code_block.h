// Sixty-four codes of 1 to 8 bits in 8 * bits bytes, as vectors want them:
// planes of 8, 4, 2 and 1 bits, low bits first. A plane of p bits holds code
// `place` in field place / 16 of lane place % 16, so that sixteen neighbouring
// codes come from one load and one shift.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxlm::kernels {

constexpr int block_codes = 64;

constexpr std::size_t block_bytes(int bits) {
  return std::size_t(8) * bits;
}
constexpr int blocks_for(int codes) {
  return (codes + block_codes - 1) / block_codes;
}

namespace detail {

// The byte and the bit of a plane where code `place` begins.
template <int P>
constexpr int byte_of(int place) {
  int lane = place % 16, field = place / 16;
  if constexpr (P == 8) return place;
  if constexpr (P == 4) return 2 * lane + field / 2;
  if constexpr (P == 2) return lane;
  return place / 8;
}
template <int P>
constexpr int bit_of(int place) {
  int field = place / 16;
  if constexpr (P == 8) return 0;
  if constexpr (P == 4) return 4 * (field % 2);
  if constexpr (P == 2) return 2 * field;
  return place % 8;
}

template <int P>
inline void put_plane(std::uint8_t* plane, int place, unsigned code) {
  constexpr unsigned mask = (1u << P) - 1;
  auto& byte = plane[byte_of<P>(place)];
  int bit = bit_of<P>(place);
  byte = std::uint8_t((byte & ~(mask << bit)) | ((code & mask) << bit));
}

template <int P>
inline unsigned get_plane(const std::uint8_t* plane, int place) {
  return (plane[byte_of<P>(place)] >> bit_of<P>(place)) & ((1u << P) - 1);
}

} // namespace detail

inline void put_code(std::uint8_t* block, int bits, int place, unsigned code) {
  if (bits & 8) return detail::put_plane<8>(block, place, code);
  if (bits & 4) {
    detail::put_plane<4>(block, place, code);
    block += block_bytes(4);
    code >>= 4;
  }
  if (bits & 2) {
    detail::put_plane<2>(block, place, code);
    block += block_bytes(2);
    code >>= 2;
  }
  if (bits & 1) detail::put_plane<1>(block, place, code);
}

inline unsigned get_code(const std::uint8_t* block, int bits, int place) {
  if (bits & 8) return detail::get_plane<8>(block, place);
  unsigned code = 0;
  int shift = 0;
  if (bits & 4) {
    code = detail::get_plane<4>(block, place);
    block += block_bytes(4);
    shift = 4;
  }
  if (bits & 2) {
    code |= detail::get_plane<2>(block, place) << shift;
    block += block_bytes(2);
    shift += 2;
  }
  if (bits & 1) code |= detail::get_plane<1>(block, place) << shift;
  return code;
}

} // namespace mlxlm::kernels

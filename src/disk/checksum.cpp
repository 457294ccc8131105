// After the specification of xxHash (XXH64, seed 0).
#include "disk/checksum.h"

#include <bit>

namespace mlxlm::disk {
namespace {

constexpr std::uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F,
                        p3 = 0x165667B19E3779F9, p4 = 0x85EBCA77C2B2AE63,
                        p5 = 0x27D4EB2F165667C5;

std::uint64_t load(const std::byte* from, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i)
    value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return value;
}

std::uint64_t round(std::uint64_t sum, std::uint64_t word) {
  return std::rotl(sum + word * p2, 31) * p1;
}

std::uint64_t merge(std::uint64_t sum, std::uint64_t lane) {
  return (sum ^ round(0, lane)) * p1 + p4;
}

} // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  const auto* at = bytes.data();
  const auto* end = at + bytes.size();
  std::uint64_t sum = p5;
  if (bytes.size() >= 32) {
    std::uint64_t a = p1 + p2, b = p2, c = 0, d = 0 - p1;
    for (; end - at >= 32; at += 32) {
      a = round(a, load(at, 8));
      b = round(b, load(at + 8, 8));
      c = round(c, load(at + 16, 8));
      d = round(d, load(at + 24, 8));
    }
    sum =
        std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    sum = merge(merge(merge(merge(sum, a), b), c), d);
  }
  sum += bytes.size();
  for (; end - at >= 8; at += 8)
    sum = std::rotl(sum ^ round(0, load(at, 8)), 27) * p1 + p4;
  if (end - at >= 4) {
    sum = std::rotl(sum ^ load(at, 4) * p1, 23) * p2 + p3;
    at += 4;
  }
  for (; at < end; ++at)
    sum = std::rotl(sum ^ load(at, 1) * p5, 11) * p1;
  sum = (sum ^ sum >> 33) * p2;
  sum = (sum ^ sum >> 29) * p3;
  return sum ^ sum >> 32;
}

} // namespace mlxlm::disk

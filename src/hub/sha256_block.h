// SHA-256 over whole blocks: plain, and with the processor's instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxlm::hub {

// Four bytes as a number, most significant first.
inline std::uint32_t big_endian(const std::byte* p) {
  return std::uint32_t(p[0]) << 24 | std::uint32_t(p[1]) << 16 |
      std::uint32_t(p[2]) << 8 | std::uint32_t(p[3]);
}

using Sha256Blocks = void (*)(std::uint32_t*, const std::byte*, std::size_t);

// Adds `n` blocks of 64 bytes to the state of 8 words.
void sha256_blocks_plain(std::uint32_t*, const std::byte*, std::size_t n);
// The fastest for this processor.
Sha256Blocks sha256_blocks();

} // namespace mlxlm::hub

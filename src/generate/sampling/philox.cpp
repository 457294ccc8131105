#include "generate/sampling/philox.h"

namespace mlxlm {

std::array<std::uint32_t, 4> philox(
    std::array<std::uint32_t, 4> c,
    std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    auto a = std::uint64_t{0xD2511F53} * c[0];
    auto b = std::uint64_t{0xCD9E8D57} * c[2];
    c = {
        static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0],
        static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1],
        static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return c;
}

double uniform(
    std::uint64_t seed,
    std::uint32_t sample,
    std::uint32_t position,
    RandomStream stream) {
  auto words = philox(
      {position, sample, static_cast<std::uint32_t>(stream), 0},
      {static_cast<std::uint32_t>(seed),
       static_cast<std::uint32_t>(seed >> 32)});
  auto bits = (std::uint64_t{words[0]} << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

} // namespace mlxlm

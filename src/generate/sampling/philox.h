// Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011): a pure function of its key, so what a
// request draws depends on nothing that runs beside it.
#pragma once

#include <array>
#include <cstdint>

namespace mlxlm {

std::array<std::uint32_t, 4> philox(
    std::array<std::uint32_t, 4> counter,
    std::array<std::uint32_t, 2> key);

// What a draw is for; streams never overlap.
enum class RandomStream : std::uint32_t {
  token,
  xtc,
  guess, // what a drafter draws
  accept, // whether it is taken
  residual, // what is drawn instead
};

// Uniform in [0, 1), 53 bits. `sample` numbers the answers drawn for one
// request.
double uniform(
    std::uint64_t seed,
    std::uint32_t sample,
    std::uint32_t position,
    RandomStream stream);

} // namespace mlxlm

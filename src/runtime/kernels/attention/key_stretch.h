// TurboQuant keys are stretched before they are rotated and coded, and queries
// shrunk by as much: after the rotation a codebook's noise is the same in every
// dimension, but queries weigh some more than others. The least noise in scores
// is where a dimension is stretched by
//   (energy of its queries / energy of its keys) ^ 1/4,
// in proportion. A page's first token tells of the queries, the page before of
// the keys (their differences from centers, see key_center.h), so the stretch
// follows from content alone, however tokens were cut into passes. It is kept
// in the page, a byte a dimension.
#pragma once

#include <cstdint>

namespace mlxlm::kernels {

// A byte counts steps of this part of an octave.
constexpr int stretch_steps = 32;
// How far a page's own measure moves what the page before has.
constexpr float stretch_move = 0.25f;
// Shares of the mean energy that every dimension has at least.
constexpr float least_query = 0.1f;
constexpr float least_key = 0.01f;

// Whether page `number` measures, not only takes over what the one before has.
// Attention turns queries anew where a stretch begins, so later on these are
// apart.
inline bool measures_stretch(int number) {
  return number % (number < 8 ? 1 : number < 32 ? 4 : 16) == 0;
}

// out[d] = 2 ^ (steps[d] / stretch_steps), or one over that.
void stretch_factors(const std::int8_t* steps, int dim, float* out);
void shrink_factors(const std::int8_t* steps, int dim, float* out);

// Moves `steps` [dim], or begins them where all are 0.
void move_stretch(
    const float* query_energy,
    const float* key_energy,
    int dim,
    std::int8_t* steps);

} // namespace mlxlm::kernels

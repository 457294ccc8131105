// Recurrences of a head over a chunk of tokens at once, as small matrix
// products: what the chunk's tokens give each other, and what they and the
// state give one another. The results are those of rows.h but for rounding.
#pragma once

#include "runtime/kernels/scan/rows.h"

namespace mlxlm::kernels {

constexpr int chunk_tokens = 32;
constexpr int least_chunk = 12; // tokens for which a chunk is worth it

// All `rows` of the head's state; length at most chunk_tokens. Mamba-2 in its
// dual form (SSD).
void state_space_chunk(const StateSpace& space, int rows);
// The delta rule in its WY form; a decay a head, not a channel.
void delta_rule_chunk(const DeltaRule& rule, int rows);

} // namespace mlxlm::kernels

// Recurrences of a head over a chunk of tokens at once, as small matrix
// products: what the chunk's tokens give each other, and what they and the
// state give one another. The results are those of rows.h but for rounding.
#pragma once

#include <algorithm>

#include "runtime/kernels/scan/rows.h"

namespace mlxlm::kernels {

constexpr int most_chunk = 32;
constexpr int least_chunk = 12; // tokens for which a chunk is worth it

// All `rows` of the head's state; length at most most_chunk. Mamba-2 in its
// dual form (SSD).
void state_space_chunk(const StateSpace& space, int rows);
// The delta rule in its WY form; a decay a head, not a channel.
void delta_rule_chunk(const DeltaRule& rule, int rows);

// All tokens of a head: by chunks where they may be and are worth it, the rest
// by rows.
template <typename Head>
void run_head(
    Head head,
    int rows,
    bool may_chunk,
    void (*by_chunk)(const Head&, int rows),
    void (*by_rows)(const Head&, int first, int end)) {
  for (int left = head.length; left > 0; left -= head.length) {
    bool chunk = may_chunk && left >= least_chunk;
    head.length = chunk ? std::min(left, most_chunk) : left;
    chunk ? by_chunk(head, rows) : by_rows(head, 0, rows);
    head.skip(head.length);
  }
}

} // namespace mlxlm::kernels

// One part of a packed page against query rows that share its head: the kernels
// that read codes. Every format is an instance of them for every target, so
// they stand apart from the loop over pages (packed_attend.cpp) and from each
// other, which keeps the time to compile them bearable.
#pragma once

#include <hwy/cache_control.h>

#include <cstddef>

#include "runtime/kernels/attention/packed_layout.h"

namespace mlxlm::kernels {

// Query rows at a time; these functions take 1, 2 or so many.
constexpr int packed_rows = 4;

// Fetches a stretch of memory while another is used, a cache line a turn.
class Fetch {
 public:
  Fetch(const std::byte* p, std::size_t bytes)
      : p_(reinterpret_cast<const char*>(p)), end_(p_ + (p ? bytes : 0)) {}
  HWY_INLINE void turn() {
    if (p_ >= end_) return;
    hwy::Prefetch(p_);
    p_ += 64;
  }

 private:
  const char *p_, *end_;
};

// A head's part in a page.
struct PagePart {
  const CodePart& codes;
  FloatType type; // of plain rows
  FloatType scale_type;
  const std::byte* head;
  std::size_t padded; // tokens between the scales of two groups
};

struct Scored { // rows of prepared queries and of scores
  const float* q;
  std::size_t q_step;
  float* scores;
  std::size_t step;
  bool add; // to what is there
  Fetch* ahead;
};

struct Weighted { // weights of tokens [first, last) and the sums they go to
  int first, last;
  const float* p;
  std::size_t step;
  const float* keep;
  float* scaled; // scratch, rows of `step`
  float* acc;
  std::size_t acc_step;
  Fetch* ahead;
};

// Keys across tokens: scores of the page's first `tokens`.
void score_across(const PagePart& part, int rows, int tokens, const Scored& to);
// Keys along the row: scores of tokens [first, last).
void score_along(
    const PagePart& part,
    int rows,
    int first,
    int last,
    const Scored& to);
// acc[r] = acc[r] * keep[r] + sum over tokens of p[r][t] * v[t].
void add_values(const PagePart& part, int rows, const Weighted& w);

} // namespace mlxlm::kernels

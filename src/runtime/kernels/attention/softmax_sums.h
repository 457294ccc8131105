// Sums of an online softmax over some of the keys, and how those over others
// are added.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace mlxlm::kernels {

// Of one query row; as AttendPages has them.
struct SumsRow {
  float *acc, *max, *sum;
};

// Of some query rows: acc [rows][stride].
struct SoftmaxSums {
  std::vector<float> acc, max, sum;
  std::size_t stride = 0;

  void resize(std::size_t rows, std::size_t row_floats) {
    stride = row_floats;
    if (acc.size() < rows * stride) acc.resize(rows * stride);
    if (max.size() < rows) max.resize(rows), sum.resize(rows);
  }
  SumsRow row(std::size_t index) {
    return {acc.data() + index * stride, &max[index], &sum[index]};
  }
};

// Adds `from` to `to`, of n values.
inline void join(const SumsRow& to, const SumsRow& from, int n) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  if (*from.max == none) return;
  if (*to.max == none) {
    std::copy(from.acc, from.acc + n, to.acc);
    *to.max = *from.max;
    *to.sum = *from.sum;
    return;
  }
  float most = std::max(*to.max, *from.max);
  float a = std::exp(*to.max - most), b = std::exp(*from.max - most);
  for (int i = 0; i < n; ++i)
    to.acc[i] = to.acc[i] * a + from.acc[i] * b;
  *to.sum = *to.sum * a + *from.sum * b;
  *to.max = most;
}

} // namespace mlxlm::kernels

#include "generate/sampling/distribution.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "core/check.h"
#include "generate/sampling/fast_exp.h"

namespace mlxlm {
namespace {

constexpr int lanes = 16;
constexpr float infinity = std::numeric_limits<float>::infinity();

struct RowMax {
  float value = -infinity;
  bool nan = false;
};

// Lane by lane, so that the compiler keeps the lanes in vector registers.
RowMax row_max(std::span<const float> row) {
  std::array<float, lanes> best;
  best.fill(-infinity);
  std::array<int, lanes> nan{};
  std::size_t i = 0, whole = row.size() / lanes * lanes;
  for (; i < whole; i += lanes)
    for (int j = 0; j < lanes; ++j) {
      float v = row[i + j];
      best[j] = v > best[j] ? v : best[j];
      nan[j] |= v != v;
    }
  RowMax result;
  for (; i < row.size(); ++i) {
    result.value = std::max(result.value, row[i]);
    result.nan |= std::isnan(row[i]);
  }
  for (int j = 0; j < lanes; ++j) {
    result.value = std::max(result.value, best[j]);
    result.nan |= nan[j] != 0;
  }
  return result;
}

double exp_sum(std::span<const float> x, float max) {
  std::array<float, 512> scratch;
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); i += scratch.size()) {
    auto count = std::min(scratch.size(), x.size() - i);
    sum += exp_block(x.data() + i, scratch.data(), count, max);
  }
  return sum;
}

// Logits by distance from the largest, an eighth of a nat a bucket: finding
// where a sum crosses a limit then sorts one bucket instead of the vocabulary.
constexpr int buckets = 512;
int bucket(float logit, float max) {
  float distance = (max - logit) * 8;
  return distance < buckets - 1 ? static_cast<int>(distance) : buckets - 1;
}

std::vector<float> members(const Distribution& d, int which) {
  std::vector<float> result;
  for (float logit : d.logits())
    if (bucket(logit, d.max()) == which) result.push_back(logit);
  return result;
}

} // namespace

void Distribution::reset(std::span<const float> row) {
  row_ = row;
  narrowed_ = false;
  auto max = row_max(row);
  max_ = max.value;
  finite_ = !max.nan && std::isfinite(max_);
}

double Distribution::mass() const {
  return exp_sum(logits(), max_);
}

double Distribution::log_normalizer() const {
  auto max = row_max(row_).value;
  return max + std::log(exp_sum(row_, max));
}

double Distribution::exact_log_normalizer() const {
  double max = row_max(row_).value, sum = 0;
  for (float logit : row_)
    sum += std::exp(logit - max);
  return max + std::log(sum);
}

void Distribution::temper(float scale) {
  if (!narrowed_) keep_if([](std::size_t) { return true; });
  for (float& logit : kept_)
    logit *= scale;
  max_ *= scale;
}

void Distribution::keep_from(float threshold) {
  auto x = logits();
  keep_if(
      [x = x.data(), threshold](std::size_t i) { return x[i] >= threshold; });
}

void Distribution::finish_narrowing() {
  MLXLM_CHECK(!kept_.empty(), "a sampling filter removed every token");
  max_ = *std::max_element(kept_.begin(), kept_.end());
}

float mass_threshold(const Distribution& d, double fraction) {
  std::array<double, buckets> mass{};
  std::array<float, 512> weights;
  auto x = d.logits();
  double total = 0;
  for (std::size_t i = 0; i < x.size(); i += weights.size()) {
    auto count = std::min(weights.size(), x.size() - i);
    total += exp_block(x.data() + i, weights.data(), count, d.max());
    for (std::size_t j = 0; j < count; ++j)
      mass[bucket(x[i + j], d.max())] += weights[j];
  }

  double limit = fraction * total, above = 0;
  int at = 0;
  while (at + 1 < buckets && above + mass[at] < limit)
    above += mass[at++];
  auto values = members(d, at);
  // An empty bucket is where rounding made the sums miss the limit: keep it
  // all.
  if (values.empty()) return -infinity;
  std::sort(values.begin(), values.end(), std::greater<>());
  float threshold = values.front();
  for (float logit : values) {
    // Equal logits have the same mass strictly above them: they stay together.
    if (logit != threshold && above >= limit) break;
    threshold = logit;
    above += exp_nonpositive(logit - d.max());
  }
  return threshold;
}

float rank_threshold(const Distribution& d, std::size_t k) {
  std::array<std::size_t, buckets> count{};
  for (float logit : d.logits())
    ++count[bucket(logit, d.max())];
  std::size_t above = 0;
  int at = 0;
  while (above + count[at] < k)
    above += count[at++];
  auto values = members(d, at);
  auto nth = values.begin() + static_cast<std::ptrdiff_t>(k - above - 1);
  std::nth_element(values.begin(), nth, values.end(), std::greater<>());
  return *nth;
}

int argmax(std::span<const float> row) {
  auto max = row_max(row);
  if (max.nan || !std::isfinite(max.value)) return -1;
  return static_cast<int>(
      std::find(row.begin(), row.end(), max.value) - row.begin());
}

} // namespace mlxlm

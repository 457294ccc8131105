#include "generate/drafting/draft_length.h"

#include <algorithm>
#include <cmath>

namespace mlxlm {
namespace {

// A few lengths only, so that passes of the same size come again (recordings).
// The long ones are a row less than what kernels take at a time.
constexpr int lengths[] = {1, 2, 3, 4, 5, 7, 11, 15, 23, 31};
constexpr double fading = 0.9; // of what was learned, a guess
constexpr int longest_pause = 64;

} // namespace

// The length that gives most tokens for its cost: with chance a, k guesses give
// 1 + a + ... + a^k tokens. Reading again is a pass that gives one.
int DraftLength::best() const {
  int result = 0;
  double best = 1;
  for (int k : lengths) {
    k = std::min(k, most_);
    double a = chance(), tokens = 1, power = 1;
    for (int i = 0; i < k; ++i)
      tokens += power *= a;
    double more = costs_.again ? 1 - power : 0;
    double cost = 1 + k * (costs_.guess + costs_.row) + more;
    if (costs_.cheap_rows > 0 && k >= costs_.cheap_rows)
      cost += costs_.many_rows;
    double gain = (tokens + more) / cost;
    if (gain > best) {
      best = gain;
      result = k;
    }
  }
  return result;
}

int DraftLength::next() {
  if (most_ <= 0) return 0;
  int k = best();
  if (k > 0) {
    pause_ = 0;
    return k;
  }
  if (++pause_ <= next_pause_) return 0;
  pause_ = 0;
  next_pause_ = std::min(2 * next_pause_, longest_pause);
  return 1;
}

void DraftLength::learn(int guessed, int taken) {
  if (guessed <= 0) return;
  int tried = std::min(guessed, taken + 1);
  double keep = std::pow(fading, tried);
  tried_ = tried_ * keep + tried;
  taken_ = taken_ * keep + taken;
  if (best() > 0) next_pause_ = 4;
}

} // namespace mlxlm

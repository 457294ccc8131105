#include "generate/pass_pace.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace mlxlm {
namespace {

// A moving mean of about the last five. A value far above it was held up by
// something else.
void learn(double& mean, double value) {
  mean = mean == 0 ? value : mean + 0.2 * (std::min(value, 3 * mean) - mean);
}

} // namespace

void PassPace::note(int decoding, int prompt, double seconds) {
  if (prompt == 0) {
    if (decoding > 0) learn(steps_[decoding], seconds);
    return;
  }
  auto beside = decoding > 0 ? step_of(decoding) : 0;
  learn(each_, std::max(seconds - beside, 0.1 * seconds) / prompt);
}

// Of as many sequences, else between those of more and of fewer; 0: unknown.
// A step of more never takes less, and at most as many times longer.
double PassPace::step_of(int decoding) const {
  if (steps_.empty()) return 0;
  auto above = steps_.lower_bound(decoding);
  if (above == steps_.begin()) return above->second;
  auto [fewer, time] = *std::prev(above);
  if (above == steps_.end()) return time;
  double share = double(decoding - fewer) / (above->first - fewer);
  return time + share * std::max(0.0, above->second - time);
}

int PassPace::prompt_tokens(int decoding, int reading, int most) const {
  auto step = step_of(decoding);
  if (step == 0 || each_ == 0) return most;
  auto waiting = std::max(1.0, double(reading) / decoding);
  auto time = std::max((stretch - 1) * waiting * step, unfelt - step);
  auto room = std::min<double>(time / each_, most);
  // Whole tiles of rows, decoding ones included, and half of one at least.
  int rows = (decoding + static_cast<int>(room)) / tile * tile;
  int least = decoding + tile / 2;
  if (rows < least) rows = (least + tile - 1) / tile * tile;
  return std::min(rows - decoding, most);
}

} // namespace mlxlm

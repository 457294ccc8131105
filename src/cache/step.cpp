// Step: checks that the segments cover the pass and lists the positions.
#include "cache/step.h"

#include "core/check.h"

namespace mlxlm {

Step::Step(std::vector<Segment> list)
    : positions(mx::array(0)), segments_(std::move(list)) {
  for (auto& segment : segments_) {
    bool good =
        segment.first == tokens && segment.count >= 1 && segment.offset >= 0;
    if (!good) {
      fail(
          ErrorKind::internal,
          "step",
          "expected a segment from token {} on, found first {}, count {}, offset {}",
          tokens,
          segment.first,
          segment.count,
          segment.offset);
    }
    tokens += segment.count;
    for (int i = 0; i < segment.count; ++i) {
      position_list_.push_back(segment.offset + i);
    }
  }
  MLXLM_CHECK(tokens > 0, "a step needs at least one token");
  positions = mx::array(position_list_.begin(), mx::Shape{tokens}, mx::int32);
}

std::vector<int> Step::last_tokens() const {
  std::vector<int> last;
  for (auto& segment : segments_) {
    last.push_back(segment.first + segment.count - 1);
  }
  return last;
}

} // namespace mlxlm

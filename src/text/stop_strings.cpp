#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace mlxlm {

StopStrings::StopStrings(std::vector<std::string> stops)
    : stops_(std::move(stops)) {
  for (const auto& stop : stops_) {
    if (stop.empty()) {
      fail(ErrorKind::request, "stop", "expected a string, found an empty one");
    }
  }
  std::stable_sort(stops_.begin(), stops_.end(), [](auto& a, auto& b) {
    return a.size() > b.size();
  });
}

std::string StopStrings::feed(std::string_view text) {
  if (stopped()) {
    return {};
  }
  held_ += text;
  auto earliest = std::string::npos;
  for (const auto& stop : stops_) {
    auto at = held_.find(stop);
    if (at < earliest) { // at the same place the longest wins
      earliest = at;
      matched_ = stop;
    }
  }
  auto safe = stopped() ? earliest : held_.size() - open_end();
  std::string shown = held_.substr(0, safe);
  held_.erase(0, stopped() ? held_.size() : safe);
  return shown;
}

std::string StopStrings::finish() {
  return std::exchange(held_, {});
}

std::size_t StopStrings::open_end() const {
  std::size_t longest = 0;
  for (const auto& stop : stops_) {
    auto most = std::min(stop.size() - 1, held_.size());
    for (auto size = most; size > longest; --size) {
      if (held_.compare(held_.size() - size, size, stop, 0, size) == 0) {
        longest = size;
      }
    }
  }
  return longest;
}

} // namespace mlxlm

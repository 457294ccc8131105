// Ends an answer at the first of some strings, while text comes in pieces: what
// may still become a stop string is held back.
//
//   StopStrings stops({"\nUser:", "END"});
//   auto shown = stops.feed(piece);   // until stops.stopped()
//   shown += stops.finish();          // at the natural end
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

class StopStrings {
 public:
  StopStrings() = default;
  // Empty strings throw Error(request).
  explicit StopStrings(std::vector<std::string> stops);

  // The text that is safe to show now. After a match: the rest before it, and
  // nothing from then on.
  std::string feed(std::string_view text);
  // What was held back; nothing after a match.
  std::string finish();

  bool stopped() const {
    return !matched_.empty();
  }
  // The stop string that was found, or empty.
  const std::string& matched() const {
    return matched_;
  }

 private:
  // Length of the longest end of held_ that is a proper beginning of a stop.
  std::size_t open_end() const;

  std::vector<std::string> stops_; // longest first
  std::string held_;
  std::string matched_;
};

} // namespace mlxlm

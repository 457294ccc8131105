#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

#include "mlxlm/error.h"

namespace mlxlm {
namespace {

TEST(StopStrings, HoldsWhatMayBecomeOne) {
  StopStrings stops({"END", "\n\n"});
  EXPECT_EQ(stops.feed("one\n"), "one");
  EXPECT_EQ(stops.feed("two E"), "\ntwo ");
  EXPECT_EQ(stops.feed("NDED"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.matched(), "END");
  EXPECT_EQ(stops.feed("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, FlushesAtTheEnd) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.feed("the EN"), "the ");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, EarliestThenLongest) {
  StopStrings stops({"b", "abc", "ab"});
  EXPECT_EQ(stops.feed("xabc"), "x");
  EXPECT_EQ(stops.matched(), "abc");
}

TEST(StopStrings, NoneAndEmpty) {
  EXPECT_EQ(StopStrings().feed("text"), "text");
  EXPECT_THROW(StopStrings({""}), Error);
}

// However the text is cut, the same text is shown before the same end.
TEST(StopStrings, CutsDoNotMatter) {
  std::mt19937 random(3);
  auto letters = [&](std::size_t size) {
    std::string s;
    while (s.size() < size) {
      s += "ab"[random() % 2];
    }
    return s;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> list(1 + random() % 3);
    for (auto& stop : list) {
      stop = letters(1 + random() % 5);
    }
    auto text = letters(random() % 30);
    auto first = text.size();
    for (const auto& stop : list) {
      first = std::min(first, text.find(stop));
    }
    StopStrings stops(list);
    std::string shown;
    for (std::size_t at = 0; at < text.size() && !stops.stopped();) {
      auto size = 1 + random() % 4;
      shown += stops.feed(text.substr(at, size));
      at += size;
    }
    shown += stops.finish();
    // A longer stop that began earlier may still have been open when a shorter
    // one inside it was complete: then the shorter one ends the text.
    auto prefix = text.substr(0, shown.size());
    EXPECT_EQ(shown, prefix);
    EXPECT_GE(shown.size(), first);
    if (stops.stopped()) {
      EXPECT_EQ(
          text.compare(shown.size(), stops.matched().size(), stops.matched()),
          0);
    } else {
      EXPECT_EQ(shown, text);
    }
  }
}

} // namespace
} // namespace mlxlm

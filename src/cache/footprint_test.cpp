// Footprint against what sequences of a real memory come to take.
#include "cache/footprint.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mlxlm {
namespace {

constexpr int page = 8, step = 20;

// The most a sequence took on its way to `tokens`, a whole pass at a time.
std::size_t peak(const std::vector<CacheSpec>& specs, int tokens, int pass) {
  auto memory = make_memory(specs, {.dtype = mx::float16, .page_tokens = page});
  auto sequence = memory->sequence();
  std::size_t most = memory->bytes();
  while (sequence->length() < tokens) {
    int count = std::min(pass, tokens - sequence->length());
    sequence->begin(count);
    most = std::max(most, memory->bytes());
    sequence->commit(count);
    most = std::max(most, memory->bytes());
  }
  return most;
}

std::vector<CacheSpec> hybrid() {
  return {
      FullKv{2, 16},
      SlidingKv{2, 16, 12},
      SlidingKv{2, 16, 12},
      SlidingKv{1, 4, 30, 8},
      LatentKv{16, 4},
      Recurrent{{{{3, 5}, mx::float32}, {{7}, mx::float16}}},
      SharedKv{0},
      std::monostate{}};
}

TEST(Footprint, IsNeverLessThanASequenceTakes) {
  Footprint need(hybrid(), {mx::float16, page, step});
  for (int tokens : {0, 1, 7, 8, 9, 31, 40, 64, 200})
    for (int pass : {1, 3, 8, 20})
      EXPECT_LE(peak(hybrid(), tokens, pass), need.bytes_for(tokens))
          << tokens << " tokens, " << pass << " a pass";
}

TEST(Footprint, IsExactWithoutWindowsAndStates) {
  std::vector<CacheSpec> specs{FullKv{2, 16, 8}, LatentKv{16, 4}};
  Footprint need(specs, {mx::float16, page, step});
  EXPECT_EQ(need.bytes_per_token(), 2u * (2 * (16 + 8) + 20));
  for (int tokens : {1, 8, 9, 100})
    EXPECT_EQ(peak(specs, tokens, step), need.bytes_for(tokens));
}

TEST(Footprint, WindowsAndStatesDoNotGrow) {
  std::vector<CacheSpec> specs{
      SlidingKv{2, 16, 12}, Recurrent{{{{3}, mx::float32}}}};
  Footprint need(specs, {mx::float16, page, step});
  EXPECT_EQ(need.bytes_per_token(), 0u);
  EXPECT_EQ(need.bytes_for(1000), need.bytes_for(1'000'000));
  EXPECT_EQ(need.tokens_within(need.bytes_for(1000), 5000), 5000);
  EXPECT_EQ(need.tokens_within(1, 5000), 0);
}

TEST(Footprint, FindsTheLongestThatFits) {
  Footprint need(hybrid(), {mx::float16, page, step});
  for (int tokens : {1, 50, 999}) {
    auto bytes = need.bytes_for(tokens);
    int fits = need.tokens_within(bytes, 100'000);
    EXPECT_GE(fits, tokens);
    EXPECT_LE(need.bytes_for(fits), bytes);
    EXPECT_GT(need.bytes_for(fits + 1), bytes);
  }
}

} // namespace
} // namespace mlxlm

#include "generate/pass_pace.h"

#include <gtest/gtest.h>

namespace mlxlm {
namespace {

// A device on which reading the weights takes 20 ms, a sequence that decodes 5
// ms and a prompt's token `each`.
struct Device {
  double each = 0.005;
  double pass(int decoding, int prompt) const {
    return 0.02 + 0.005 * decoding + each * prompt;
  }
};

void settle(PassPace& pace, const Device& device, int decoding) {
  for (int i = 0; i < 40; ++i) {
    int tokens = pace.prompt_tokens(decoding, 1, 512);
    pace.note(decoding, tokens, device.pass(decoding, tokens));
  }
}

TEST(PassPaceTest, AllUntilSomethingIsKnown) {
  PassPace pace;
  EXPECT_EQ(pace.prompt_tokens(3, 1, 512), 512);
  pace.note(0, 512, 0.5);
  EXPECT_EQ(pace.prompt_tokens(3, 1, 512), 512);
  pace.note(3, 0, 0.01);
  EXPECT_LT(pace.prompt_tokens(3, 1, 512), 64);
}

TEST(PassPaceTest, FindsWhatKeepsThePace) {
  PassPace pace;
  Device device;
  pace.note(8, 0, device.pass(8, 0));
  settle(pace, device, 8);
  int tokens = pace.prompt_tokens(8, 1, 512);
  EXPECT_EQ(tokens, 16); // 18 at 1.5 times 60 ms, in whole tiles
  EXPECT_LE(device.pass(8, tokens), PassPace::stretch * device.pass(8, 0));
  EXPECT_EQ(pace.prompt_tokens(8, 1, 5), 5);
}

TEST(PassPaceTest, DearTokensAreFewerButNeverNone) {
  PassPace pace;
  Device device;
  pace.note(8, 0, device.pass(8, 0));
  settle(pace, device, 8);
  device.each = 0.01; // behind many tokens
  settle(pace, device, 8);
  EXPECT_EQ(pace.prompt_tokens(8, 1, 512), 8);
  device.each = 5;
  settle(pace, device, 8);
  EXPECT_EQ(pace.prompt_tokens(8, 1, 512), 8); // fewer rows cost about the same
  EXPECT_EQ(pace.prompt_tokens(7, 1, 512), 9);
  EXPECT_EQ(pace.prompt_tokens(4, 1, 512), 4);
}

TEST(PassPaceTest, MoreSequencesHaveLongerSteps) {
  PassPace pace;
  Device device;
  pace.note(4, 0, device.pass(4, 0));
  pace.note(32, 0, device.pass(32, 0));
  settle(pace, device, 32);
  EXPECT_EQ(pace.prompt_tokens(32, 1, 512), 48); // 54
  EXPECT_EQ(pace.prompt_tokens(16, 1, 512), 24); // 30
  EXPECT_EQ(pace.prompt_tokens(2, 1, 512), 6); // no more than at 4: 12
  EXPECT_EQ(pace.prompt_tokens(50, 1, 512), 54); // as at 32
}

TEST(PassPaceTest, PassesThatNobodyFeelsNeedNotBeShorter) {
  PassPace pace;
  Device quick{.each = 0.001};
  for (int i = 0; i < 40; ++i) {
    pace.note(8, 0, 0.009);
    pace.note(8, 30, 0.009 + 30 * quick.each);
  }
  EXPECT_EQ(pace.prompt_tokens(8, 1, 512), 40); // 41 ms
}

TEST(PassPaceTest, WhereMostReadPromptsGetMostOfTheTime) {
  PassPace pace;
  Device device;
  pace.note(2, 0, device.pass(2, 0));
  settle(pace, device, 2);
  auto alone = pace.prompt_tokens(2, 2, 512);
  EXPECT_EQ(alone, 6); // 1.5 times 30 ms
  EXPECT_EQ(pace.prompt_tokens(2, 14, 512), 62); // seven times as long
  EXPECT_EQ(pace.prompt_tokens(2, 1, 512), alone);
}

TEST(PassPaceTest, OneLongPassIsNoNewPace) {
  PassPace pace;
  pace.note(8, 512, 0.5);
  for (int i = 0; i < 20; ++i)
    pace.note(8, 0, 0.01);
  auto before = pace.prompt_tokens(8, 1, 512);
  pace.note(8, 0, 5.0);
  EXPECT_LE(pace.prompt_tokens(8, 1, 512), 2 * before);
}

} // namespace
} // namespace mlxlm

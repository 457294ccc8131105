#include "generate/scheduler.h"

#include <gtest/gtest.h>

#include <map>

namespace mlxlm {
namespace {

int tokens(const std::vector<Piece>& pieces) {
  int sum = 0;
  for (const auto& piece : pieces)
    sum += piece.count;
  return sum;
}

TEST(BalancedChunk, AsFewAsPossibleAllAlike) {
  EXPECT_EQ(balanced_chunk(100, 512), 100);
  EXPECT_EQ(balanced_chunk(512, 512), 512);
  EXPECT_EQ(balanced_chunk(513, 512), 257);
  EXPECT_EQ(balanced_chunk(1600, 512), 400);
}

TEST(Scheduler, ReadsInChunksThenDecodes) {
  Scheduler s({.step_tokens = 10});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 25, .new_tokens = 3}));
  EXPECT_EQ(s.admit(), std::vector<std::uint64_t>{1});
  std::vector<int> counts;
  std::vector<bool> samples;
  for (int i = 0; i < 7; ++i)
    for (const auto& piece : s.plan()) {
      counts.push_back(piece.count);
      samples.push_back(piece.samples);
    }
  EXPECT_EQ(counts, (std::vector<int>{9, 8, 8, 1, 1}));
  EXPECT_EQ(samples, (std::vector<bool>{false, false, true, true, true}));
  EXPECT_FALSE(s.idle()); // until finish says that the last token was seen
  s.finish(1);
  EXPECT_TRUE(s.idle());
}

TEST(Scheduler, OneThatWaitsIsNotRead) {
  Scheduler s({.step_tokens = 10});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 25, .new_tokens = 3}));
  ASSERT_FALSE(s.submit({.id = 2, .prefill = 25, .new_tokens = 3}));
  s.admit();
  s.wait(2, true);
  s.cut(1, 13);
  auto first = s.plan(), second = s.plan();
  ASSERT_EQ(first.size(), 1u);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(first[0].count + second[0].count, 13); // a chunk ends there
  EXPECT_EQ(s.unread(1), 12);
  EXPECT_EQ(s.unread(2), 25);
  EXPECT_EQ(s.unread(3), 0);
  s.wait(2, false);
  s.skip(2, 13);
  EXPECT_EQ(s.plan().size(), 2u);
}

TEST(Scheduler, PromptsLeaveOthersTheirPace) {
  auto seven = [](int decoding, int, int most) {
    EXPECT_EQ(decoding, 1);
    EXPECT_EQ(most, 99);
    return 7;
  };
  Scheduler s({.step_tokens = 100});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 10, .new_tokens = 50}));
  s.admit();
  EXPECT_EQ(tokens(s.plan(seven)), 10); // nobody decodes yet
  ASSERT_FALSE(s.submit({.id = 2, .prefill = 70, .new_tokens = 5}));
  s.admit();
  EXPECT_EQ(tokens(s.plan(seven)), 8);
  // More read than decode: short prompts come first, long ones do not.
  ASSERT_FALSE(s.submit({.id = 3, .prefill = 400, .new_tokens = 5}));
  s.admit();
  EXPECT_EQ(tokens(s.plan(seven)), 8);
  s.finish(3);
  ASSERT_FALSE(s.submit({.id = 4, .prefill = 70, .new_tokens = 5}));
  s.admit();
  EXPECT_GT(tokens(s.plan(seven)), 50);
}

TEST(Scheduler, SmallPiecesAreOfOnePromptInTurns) {
  Scheduler s({.step_tokens = 100});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 1, .new_tokens = 50}));
  s.admit();
  s.plan();
  ASSERT_FALSE(s.submit({.id = 2, .prefill = 300, .new_tokens = 5}));
  ASSERT_FALSE(s.submit({.id = 3, .prefill = 290, .new_tokens = 5}));
  ASSERT_FALSE(s.submit({.id = 4, .prefill = 12, .new_tokens = 5}));
  s.admit();
  std::vector<std::uint64_t> read;
  for (int i = 0; i < 6; ++i)
    for (const auto& piece : s.plan([](int, int, int) { return 8; }))
      if (!piece.decode) read.push_back(piece.id);
  EXPECT_EQ(read, (std::vector<std::uint64_t>{4, 2, 4, 3, 2, 3, 2}));
}

TEST(Scheduler, ReadsAtLeastATokenBesideOthers) {
  Scheduler s({.step_tokens = 100});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 1, .new_tokens = 50}));
  s.admit();
  s.plan();
  ASSERT_FALSE(s.submit({.id = 2, .prefill = 70, .new_tokens = 5}));
  s.admit();
  EXPECT_EQ(tokens(s.plan([](int, int, int) { return 0; })), 2);
  EXPECT_EQ(tokens(s.plan([](int, int, int most) { return 2 * most; })), 70);
}

TEST(Scheduler, ChunksEndWhereOneMayComeBackTo) {
  Scheduler s({.step_tokens = 100});
  Job job{.id = 1, .prefill = 300, .new_tokens = 1};
  job.ends = {20, 250};
  job.align = 16;
  ASSERT_FALSE(s.submit(job));
  s.admit();
  s.skip(1, 7);
  std::vector<int> ends{7};
  while (ends.back() < 300)
    ends.push_back(ends.back() + s.plan().at(0).count);
  EXPECT_EQ(ends, (std::vector<int>{7, 20, 112, 208, 250, 300}));
}

TEST(Scheduler, ThoseThatFollowWaitForThePrompt) {
  Scheduler s({.step_tokens = 10});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 15, .new_tokens = 3}));
  ASSERT_FALSE(
      s.submit({.id = 2, .prefill = 15, .new_tokens = 3, .follows = 1}));
  EXPECT_EQ(s.admit(), std::vector<std::uint64_t>{1});
  s.plan();
  EXPECT_TRUE(s.admit().empty());
  s.plan();
  EXPECT_EQ(s.admit(), std::vector<std::uint64_t>{2});
  s.skip(2, 14);
  auto pieces = s.plan();
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_TRUE(pieces[1].samples);
  EXPECT_EQ(pieces[1].count, 1);
  // Who is followed may be gone.
  ASSERT_FALSE(
      s.submit({.id = 3, .prefill = 5, .new_tokens = 1, .follows = 9}));
  EXPECT_EQ(s.admit(), std::vector<std::uint64_t>{3});
}

TEST(Scheduler, NeverExceedsTheBudgetAndAlwaysMovesOn) {
  Scheduler s({.step_tokens = 16, .max_sequences = 5});
  std::map<std::uint64_t, int> unread;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    int prefill = 1 + static_cast<int>(id * 37 % 90);
    unread[id] = prefill;
    ASSERT_FALSE(s.submit({.id = id, .prefill = prefill, .new_tokens = 4}));
  }
  std::map<std::uint64_t, int> drawn;
  int passes = 0;
  while (!s.idle()) {
    ASSERT_LT(++passes, 1000);
    s.admit();
    ASSERT_LE(s.running(), 5u);
    auto pieces = s.plan();
    ASSERT_FALSE(pieces.empty());
    ASSERT_LE(tokens(pieces), 16);
    for (const auto& piece : pieces) {
      if (!piece.decode) unread[piece.id] -= piece.count;
      ASSERT_GE(unread[piece.id], 0);
      EXPECT_EQ(piece.samples, unread[piece.id] == 0);
      if (piece.samples && ++drawn[piece.id] == 4) s.finish(piece.id);
    }
  }
  for (auto [id, count] : drawn)
    EXPECT_EQ(count, 4) << id;
  EXPECT_EQ(drawn.size(), 20u);
}

TEST(Scheduler, ShortPromptIsNotStuckBehindALongOne) {
  Scheduler s({.step_tokens = 512});
  ASSERT_FALSE(s.submit({.id = 1, .prefill = 32768, .new_tokens = 1}));
  s.admit();
  s.plan();
  ASSERT_FALSE(s.submit({.id = 2, .prefill = 200, .new_tokens = 1}));
  s.admit();
  auto pieces = s.plan();
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].id, 1u);
  EXPECT_GE(pieces[0].count, 256);
  EXPECT_EQ(pieces[1].count, 200);
  EXPECT_TRUE(pieces[1].samples);
}

TEST(Scheduler, DecodingNeverWaitsForPrompts) {
  Scheduler s({.step_tokens = 8, .max_sequences = 20});
  for (std::uint64_t id = 1; id <= 12; ++id)
    ASSERT_FALSE(s.submit({.id = id, .prefill = 1, .new_tokens = 100}));
  s.admit();
  for (int i = 0; i < 6; ++i)
    s.plan();
  ASSERT_FALSE(s.submit({.id = 13, .prefill = 4, .new_tokens = 1}));
  s.admit();
  auto pieces =
      s.plan(); // 12 decode although the budget is 8; one token is read
  EXPECT_EQ(tokens(pieces), 13);
}

TEST(Scheduler, AdmissionInOrderAsFarAsItFits) {
  Scheduler s({});
  for (std::uint64_t id = 1; id <= 3; ++id)
    EXPECT_FALSE(s.submit({.id = id, .prefill = 1, .new_tokens = 1}));
  auto not_two = [](const Job& job) { return job.id != 2; };
  EXPECT_EQ(s.admit(not_two), std::vector<std::uint64_t>{1});
  EXPECT_TRUE(s.admit(not_two).empty()); // 3 would fit but 2 came first
  EXPECT_EQ(s.admit(), (std::vector<std::uint64_t>{2, 3}));
}

TEST(Scheduler, OneStandsStillAndOneBeginsAgainBeforeTheOthers) {
  Scheduler s({.max_sequences = 2});
  for (std::uint64_t id = 1; id <= 3; ++id)
    ASSERT_FALSE(s.submit({.id = id, .prefill = 2, .new_tokens = 9}));
  s.admit();
  s.plan();
  s.hold(1, true);
  auto pieces = s.plan();
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].id, 2u);
  s.hold(1, false);
  s.requeue(2, 4, 7);
  EXPECT_EQ(s.admit(), std::vector<std::uint64_t>{2});
  EXPECT_EQ(s.waiting(), 1u);
  pieces = s.plan();
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_TRUE(pieces[0].decode);
  EXPECT_EQ(pieces[1].count, 4);
  EXPECT_TRUE(pieces[1].samples);
}

TEST(Scheduler, BoundedQueueAndCancelWhileWaiting) {
  Scheduler s({.max_sequences = 1, .max_waiting = 2});
  EXPECT_FALSE(s.submit({.id = 1, .prefill = 1, .new_tokens = 1}));
  s.admit();
  EXPECT_FALSE(s.submit({.id = 2, .prefill = 1, .new_tokens = 1}));
  EXPECT_FALSE(s.submit({.id = 3, .prefill = 1, .new_tokens = 1}));
  EXPECT_TRUE(s.submit({.id = 4, .prefill = 1, .new_tokens = 1}));
  s.finish(2);
  EXPECT_EQ(s.waiting(), 1u);
  s.finish(1);
  EXPECT_EQ(s.admit(), std::vector<std::uint64_t>{3});
}

TEST(Scheduler, AGroupDecodesTogether) {
  Scheduler s({.step_tokens = 4});
  for (std::uint64_t id = 1; id <= 3; ++id)
    ASSERT_FALSE(
        s.submit({.id = id, .prefill = 4, .new_tokens = 3, .group = 7}));
  s.admit();
  int passes = 0;
  for (;; ++passes) {
    auto pieces = s.plan();
    if (!pieces.empty() && pieces[0].decode) {
      EXPECT_EQ(pieces.size(), 3u);
      break;
    }
    ASSERT_LT(passes, 10);
  }
  EXPECT_EQ(passes, 3);
}

} // namespace
} // namespace mlxlm

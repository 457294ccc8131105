// The parts of drafting without a model: what is looked up, how much is
// drafted, and that the guesses that are taken leave the distribution alone.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "generate/drafting/draft_length.h"
#include "generate/drafting/prompt_lookup.h"
#include "generate/drafting/verify.h"

namespace mlxlm {
namespace {

using Tokens = std::vector<int>;

TEST(PromptLookup, WhatFollowedTheLongestRun) {
  // "1 2" was followed by 3 and later by 4; "9 1 2" only by 3.
  Tokens known = {9, 1, 2, 3, 5, 1, 2, 4, 6, 9, 1, 2};
  EXPECT_EQ(look_up(known, 3), (Tokens{3, 5, 1}));
  // Of equally long runs the latest.
  known[9] = 7;
  EXPECT_EQ(look_up(known, 3), (Tokens{4, 6, 7}));
  EXPECT_EQ(look_up(known, 3, {.least = 3, .most = 5}), Tokens{});
}

TEST(PromptLookup, GoesOnPastTheEnd) {
  EXPECT_EQ(look_up(Tokens{7, 1, 2, 1, 2}, 5), (Tokens{1, 2, 1, 2, 1}));
  EXPECT_EQ(look_up(Tokens{4, 4, 4}, 3), (Tokens{4, 4, 4}));
}

TEST(PromptLookup, NothingToFind) {
  EXPECT_EQ(look_up(Tokens{}, 3), Tokens{});
  EXPECT_EQ(look_up(Tokens{1}, 3), Tokens{});
  EXPECT_EQ(look_up(Tokens{1, 2, 3, 4}, 3), Tokens{});
  EXPECT_EQ(look_up(Tokens{5, 1, 6, 1}, 3), Tokens{}); // a run of one
}

TEST(DraftLength, FollowsWhatWasTaken) {
  DraftLength good(8, {.row = 0.2}), bad(8, {.row = 0.2});
  EXPECT_GT(good.next(), 0);
  for (int i = 0; i < 20; ++i) {
    int k = good.next();
    EXPECT_LE(k, 8);
    good.learn(k, k);
    bad.learn(bad.next(), 0);
  }
  EXPECT_EQ(good.next(), 8);
  // Where nothing is taken nearly every pass goes without.
  int guesses = 0;
  for (int i = 0; i < 200; ++i) {
    int k = bad.next();
    guesses += k;
    bad.learn(k, 0);
  }
  EXPECT_GT(guesses, 0);
  EXPECT_LT(guesses, 10);
  // And it comes back.
  for (int i = 0; i < 400; ++i) {
    int k = bad.next();
    bad.learn(k, k);
  }
  EXPECT_GE(bad.next(), 6);
}

TEST(DraftLength, StaysBelowWhereRowsGetDear) {
  DraftLength plain(16, {.row = 0.15}),
      dear(16, {.row = 0.15, .cheap_rows = 8, .many_rows = 1.7});
  for (int i = 0; i < 30; ++i) {
    plain.learn(7, 7);
    dear.learn(7, 7);
  }
  EXPECT_EQ(plain.next(), 16);
  EXPECT_EQ(dear.next(), 7);
}

TEST(DraftLength, DearGuessesAreFewer) {
  DraftLength cheap(16, {.row = 0.1}), dear(16, {.guess = 0.4, .row = 0.1});
  for (int i = 0; i < 30; ++i) {
    cheap.learn(4, 3);
    dear.learn(4, 3);
  }
  EXPECT_GT(cheap.next(), dear.next());
  DraftLength once(16, {.row = 0.1}), again(16, {.row = 0.1, .again = true});
  for (int i = 0; i < 30; ++i) {
    once.learn(4, 2);
    again.learn(4, 2);
  }
  EXPECT_GE(once.next(), again.next());
  EXPECT_EQ(DraftLength(0, {}).next(), 0);
}

// ---- verifying
constexpr int vocab = 6;
using Row = std::vector<float>;

Row logits_of(int seed, const Tokens& before) {
  Row row(vocab);
  for (int i = 0; i < vocab; ++i) {
    int mix = seed * 31 + i * 17;
    for (int token : before)
      mix = mix * 13 + token * 7 + 3;
    row[i] = static_cast<float>(std::sin(mix) * 1.5);
  }
  return row;
}

Row rows_after(const Tokens& prompt, const Tokens& guesses) {
  Row all;
  auto known = prompt;
  for (std::size_t i = 0; i <= guesses.size(); ++i) {
    auto row = logits_of(1, known);
    all.insert(all.end(), row.begin(), row.end());
    if (i < guesses.size()) known.push_back(guesses[i]);
  }
  return all;
}

Draft draft_by(Sampler sampler, const Tokens& prompt, int count) {
  Draft draft;
  auto known = prompt;
  for (int i = 0; i < count; ++i) {
    auto guess = sampler.guess(logits_of(2, known)); // another model
    draft.tokens.push_back(guess.token);
    draft.from.push_back(guess.from);
    known.push_back(guess.token);
  }
  return draft;
}

// Two tokens, again and again: what comes must be distributed as without
// guesses, with every filter and penalty on the way.
class Chances : public ::testing::TestWithParam<SamplingParameters> {};

TEST_P(Chances, DistributionStaysWhatItWas) {
  const Tokens prompt = {1, 4};
  constexpr int trials = 40000;
  std::vector<double> plain(vocab * vocab), drafted(vocab * vocab);
  int taken = 0;
  for (int seed = 0; seed < trials; ++seed) {
    Sampler sampler(GetParam(), static_cast<std::uint64_t>(seed), prompt);
    Tokens one = prompt;
    Sampler alone = sampler;
    for (int i = 0; i < 2; ++i)
      one.push_back(alone.next(logits_of(1, one)).token);
    plain[one[2] * vocab + one[3]] += 1;

    Tokens two = prompt;
    while (two.size() < 4) {
      auto draft = draft_by(sampler, two, 3);
      auto drawn = verify(sampler, rows_after(two, draft.tokens), draft);
      taken += static_cast<int>(drawn.size()) - 1;
      for (auto d : drawn)
        two.push_back(d.token);
    }
    drafted[two[2] * vocab + two[3]] += 1;
  }
  EXPECT_GT(taken, trials / 10);
  // Two samples of one distribution: chi-squared of 35 degrees or fewer, and
  // the seeds are fixed.
  double chi = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    double sum = plain[i] + drafted[i], gap = plain[i] - drafted[i];
    if (sum > 0) chi += gap * gap / sum;
  }
  EXPECT_LT(chi, 66.6); // a chance of one in a thousand
}

INSTANTIATE_TEST_SUITE_P(
    Parameters,
    Chances,
    ::testing::Values(
        SamplingParameters{.temperature = 1},
        SamplingParameters{.temperature = 0.6, .top_p = 0.9f},
        SamplingParameters{.temperature = 1.3, .min_p = 0.1f},
        SamplingParameters{
            .temperature = 0.9,
            .top_k = 3,
            .repetition_penalty = 1.5f,
            .presence_penalty = 0.3f},
        SamplingParameters{.temperature = 1, .xtc_probability = 0.5f},
        SamplingParameters{.temperature = 1.2, .typical_p = 0.8f},
        SamplingParameters{
            .temperature = 1.2,
            .dry_multiplier = 0.8f,
            .dry_allowed_length = 1},
        SamplingParameters{
            .temperature = 1.2,
            .top_p = 0.9f,
            .chain = {"dry", "temperature", "top_p"}},
        SamplingParameters{
            .temperature = 1,
            .mirostat = 2,
            .mirostat_tau = 2,
            .mirostat_eta = 0.5f}));

TEST(Verify, GuessesWithoutChancesChangeNothingAtAll) {
  for (double temperature : {0.0, 0.8, 1.0}) {
    SamplingParameters p{
        .temperature = temperature,
        .repetition_penalty = 1.3f,
        .frequency_penalty = 0.2f,
        .mirostat = temperature == 1 ? 1 : 0,
        .mirostat_tau = 2};
    for (int seed = 0; seed < 200; ++seed) {
      const Tokens prompt = {2, 0, 5};
      Sampler alone(p, static_cast<std::uint64_t>(seed), prompt, true);
      Sampler ahead = alone;
      Tokens one = prompt, two = prompt;
      std::vector<float> logprobs, others;
      while (one.size() < 16) {
        auto drawn = alone.next(logits_of(1, one));
        one.push_back(drawn.token);
        logprobs.push_back(drawn.logprob);
      }
      while (two.size() < 16) {
        auto draft = draft_by(ahead, two, 1 + seed % 4);
        draft.from.clear();
        for (auto d : verify(ahead, rows_after(two, draft.tokens), draft)) {
          two.push_back(d.token);
          others.push_back(d.logprob);
        }
      }
      two.resize(16);
      others.resize(13);
      EXPECT_EQ(one, two);
      EXPECT_EQ(logprobs, others);
    }
  }
}

TEST(Verify, NothingToDrawEndsTheDraft) {
  Sampler sampler({.temperature = 0}, 0, Tokens{1});
  Row rows = rows_after({1}, {3, 3});
  std::fill(rows.begin(), rows.begin() + vocab, std::nanf(""));
  auto drawn = verify(sampler, rows, {.tokens = {3, 3}});
  ASSERT_EQ(drawn.size(), 1u);
  EXPECT_EQ(drawn[0].token, -1);
}

} // namespace
} // namespace mlxlm

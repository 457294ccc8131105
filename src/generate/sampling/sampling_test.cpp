#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "generate/sampling/distribution.h"
#include "generate/sampling/fast_exp.h"
#include "generate/sampling/philox.h"
#include "generate/sampling/sampler.h"
#include "mlxlm/error.h"
#include "mlxlm/generate.h"

namespace mlxlm {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> random_row(std::size_t size, unsigned seed, float spread) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(size);
  for (float& x : row)
    x = normal(generator);
  return row;
}

// Known answers of the Philox authors' Random123 (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(
      philox({0, 0, 0, 0}, {0, 0}),
      (std::array<std::uint32_t, 4>{
          0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(
      philox(
          {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
          {0xa4093822, 0x299f31d0}),
      (std::array<std::uint32_t, 4>{
          0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(FastExp, MatchesExp) {
  for (float x = 0; x > -86; x -= 0.0137f)
    EXPECT_NEAR(exp_nonpositive(x) / std::exp(double{x}), 1, 3e-7) << x;
  EXPECT_EQ(exp_nonpositive(0), 1);
  EXPECT_EQ(exp_nonpositive(-infinity), 0);
}

TEST(Argmax, LowestIndexAmongEquals) {
  std::vector<float> row(100, 1.0f);
  EXPECT_EQ(argmax(row), 0);
  row[70] = row[93] = 2;
  EXPECT_EQ(argmax(row), 70);
  row[99] = 3;
  EXPECT_EQ(argmax(row), 99);
}

TEST(Argmax, NotFinite) {
  for (std::size_t size : {5, 16, 100}) {
    std::vector<float> row(size, 1.0f);
    row[size - 2] = NAN;
    EXPECT_EQ(argmax(row), -1);
    row.assign(size, -infinity);
    EXPECT_EQ(argmax(row), -1);
    row[3] = infinity;
    EXPECT_EQ(argmax(row), -1);
  }
}

TEST(Distribution, RankThresholdIsTheKthLargest) {
  for (float spread : {0.001f, 1.0f, 30.0f}) {
    auto row = random_row(5000, 3, spread);
    auto sorted = row;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    Distribution d;
    d.reset(row);
    for (std::size_t k : {1, 2, 17, 999, 5000})
      EXPECT_EQ(rank_threshold(d, k), sorted[k - 1]);
  }
}

TEST(Distribution, MassThresholdAgainstSorting) {
  for (float spread : {0.001f, 1.0f, 4.0f}) {
    auto row = random_row(3000, 4, spread);
    auto sorted = row;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double total = 0;
    for (float x : sorted)
      total += std::exp(double{x} - sorted[0]);
    Distribution d;
    d.reset(row);
    for (double p : {1e-6, 0.1, 0.5, 0.9, 0.999}) {
      double above = 0;
      std::size_t kept = 0;
      for (; kept < sorted.size() && above < p * total; ++kept)
        above += std::exp(double{sorted[kept]} - sorted[0]);
      auto threshold = mass_threshold(d, p);
      auto count = std::count_if(
          row.begin(), row.end(), [&](float x) { return x >= threshold; });
      // Float sums may move the edge by one token of 3000.
      EXPECT_NEAR(count, kept, 1) << spread << " " << p;
    }
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  std::vector<float> row{1.0f, 0.0f, 2.0f, -infinity, 0.5f, -1.0f};
  SamplingParameters parameters{.temperature = 0.8, .top_p = 0.95f};
  Sampler sampler(parameters, 7, {});
  std::map<int, double> expected;
  for (auto [token, p] : sampler.probabilities(row))
    expected[token] = p;
  ASSERT_EQ(expected.count(3), 0u);
  constexpr int draws = 100000;
  std::map<int, int> seen;
  for (int i = 0; i < draws; ++i)
    ++seen[sampler.next(row).token];
  double chi = 0;
  for (auto [token, p] : expected)
    chi += std::pow(seen[token] - draws * p, 2) / (draws * p);
  EXPECT_LT(chi, 20.5); // 5 degrees of freedom, p = 0.001
  for (auto [token, count] : seen)
    EXPECT_EQ(expected.count(token), 1u) << token;
}

TEST(Sampler, WideVocabularyWithoutFilters) {
  auto row = random_row(50000, 5, 2);
  Sampler sampler({.temperature = 1}, 1, {});
  double mean = 0, expected = 0;
  for (auto [token, p] : sampler.probabilities(row))
    expected += token * p;
  constexpr int draws = 4000;
  for (int i = 0; i < draws; ++i)
    mean += sampler.next(row).token / double{draws};
  // Standard error of the mean of a nearly uniform index is about 230.
  EXPECT_NEAR(mean, expected, 1200);
}

TEST(Sampler, DependsOnSeedAndPositionOnly) {
  auto row = random_row(1000, 6, 1);
  std::vector<int> prompt{1, 2, 3};
  auto run = [&](std::uint64_t seed, std::uint32_t sample) {
    Sampler sampler({.temperature = 1}, seed, prompt, false, sample);
    std::vector<int> tokens;
    for (int i = 0; i < 20; ++i)
      tokens.push_back(sampler.next(row).token);
    return tokens;
  };
  EXPECT_EQ(run(9, 0), run(9, 0));
  EXPECT_NE(run(9, 0), run(10, 0));
  EXPECT_NE(run(9, 0), run(9, 1));
  Sampler original({.temperature = 1}, 9, prompt);
  original.next(row);
  auto copy = original;
  EXPECT_EQ(copy.next(row).token, original.next(row).token);
}

TEST(Sampler, NotFiniteRowsGiveNoToken) {
  for (double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature}, 1, {});
    auto row = random_row(64, 8, 1);
    row[40] = NAN;
    EXPECT_EQ(sampler.next(row).token, -1);
    row[40] = infinity;
    EXPECT_EQ(sampler.next(row).token, -1);
    row.assign(64, -infinity);
    EXPECT_EQ(sampler.next(row).token, -1);
  }
}

TEST(Sampler, LogprobOfProcessedLogits) {
  std::vector<float> row{0, 1, 2, 3};
  Sampler sampler({.temperature = 0, .logit_bias = {{0, 5}}}, 1, {}, true);
  auto sampled = sampler.next(row);
  EXPECT_EQ(sampled.token, 0);
  double total =
      std::exp(0.0) + std::exp(-4.0) + std::exp(-3.0) + std::exp(-2.0);
  EXPECT_NEAR(sampled.logprob, -std::log(total), 1e-6);
}

TEST(Sampler, PenaltiesSeePromptAndAnswer) {
  std::vector<float> row{3, 2.9f, 1};
  SamplingParameters p{
      .temperature = 0, .presence_penalty = 0.5f, .presence_context_size = 1};
  Sampler sampler(p, 1, std::vector<int>{0});
  EXPECT_EQ(sampler.next(row).token, 1); // 0 was the prompt's last
  EXPECT_EQ(sampler.next(row).token, 0); // only the last token counts
  EXPECT_EQ(sampler.next(row).token, 1);
}

TEST(Sampler, XtcNowAndThen) {
  std::vector<float> row{5, 4.9f, 0};
  Sampler sampler({.temperature = 0.01, .xtc_probability = 0.5f}, 3, {});
  int best = 0;
  for (int i = 0; i < 1000; ++i)
    best += sampler.next(row).token == 0;
  EXPECT_NEAR(best, 500, 60);
}

} // namespace
} // namespace mlxlm

// Stages beyond mlx-lm's, against their definitions written out; the order of
// the user's choice; tokens that must or must not come.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "generate/sampling/sampler.h"
#include "generate/sampling/stages.h"
#include "mlxlm/error.h"
#include "mlxlm/generate.h"

namespace mlxlm {
namespace {

using Row = std::vector<float>;
using Tokens = std::vector<int>;

Row logs(const std::vector<double>& probabilities) {
  Row row;
  for (double p : probabilities)
    row.push_back(static_cast<float>(std::log(p)));
  return row;
}

Tokens kept(
    const SamplingParameters& p,
    const Row& row,
    const Tokens& prompt = {}) {
  Tokens tokens;
  for (auto entry : Sampler(p, 0, prompt).probabilities(row))
    tokens.push_back(entry.token);
  return tokens;
}

TEST(Typical, KeepsWhatIsAsSurprisingAsExpected) {
  // Entropy 1.30 nats; surprises 0.69, 1.39, 2.08, 2.77, 2.77: in the order of
  // their distance 1, 0, 2, 3, 4.
  auto row = logs({0.5, 0.25, 0.125, 0.0625, 0.0625});
  EXPECT_EQ(kept({.temperature = 1, .typical_p = 0.2f}, row), (Tokens{1}));
  EXPECT_EQ(kept({.temperature = 1, .typical_p = 0.3f}, row), (Tokens{0, 1}));
  EXPECT_EQ(
      kept({.temperature = 1, .typical_p = 0.8f}, row), (Tokens{0, 1, 2}));
  EXPECT_EQ(kept({.temperature = 1, .typical_p = 1}, row).size(), 5u);
  EXPECT_EQ(
      kept({.temperature = 1, .min_tokens_to_keep = 3, .typical_p = 0.1f}, row)
          .size(),
      3u);
}

TEST(TopNSigma, StandardDeviationsBelowTheLargest) {
  Row row = {4, 3, 2, 1, 0}; // sigma 1.414
  EXPECT_EQ(kept({.temperature = 1, .top_n_sigma = 1}, row), (Tokens{0, 1}));
  EXPECT_EQ(kept({.temperature = 1, .top_n_sigma = 2}, row), (Tokens{0, 1, 2}));
  row.push_back(-INFINITY); // is not counted
  EXPECT_EQ(kept({.temperature = 1, .top_n_sigma = 1}, row), (Tokens{0, 1}));
}

TEST(Dry, PunishesWhatLengthensARepetition) {
  // "1 2 3" came before and was followed by 4; so was "3" alone by 5.
  Tokens text = {1, 2, 3, 4, 3, 5, 1, 2, 3};
  SamplingParameters p{
      .temperature = 1,
      .dry_multiplier = 0.8f,
      .dry_base = 2,
      .dry_allowed_length = 2,
      .dry_breaker_tokens = {9}};
  Row row(10, 0.0f), out = Sampler(p, 0, text).processed(row);
  for (int t = 0; t < 10; ++t)
    EXPECT_FLOAT_EQ(out[t], t == 4 ? -0.8f * 2 : 0) << t;
  // One token may be repeated as well now.
  p.dry_allowed_length = 1;
  out = Sampler(p, 0, text).processed(row);
  EXPECT_FLOAT_EQ(out[4], -0.8f * 4);
  EXPECT_FLOAT_EQ(out[5], -0.8f);
  // Repetitions end at breakers.
  Tokens broken = {1, 9, 3, 4, 1, 9, 3};
  out = Sampler(p, 0, broken).processed(row);
  EXPECT_FLOAT_EQ(out[4], -0.8f);
  // Only what is near enough counts.
  p.dry_penalty_last_n = 4;
  EXPECT_EQ(Sampler(p, 0, text).processed(row), row);
}

TEST(Dry, LongRepetitionsStayFinite) {
  SamplingParameters p{.temperature = 1, .dry_multiplier = 1};
  auto out = Sampler(p, 0, Tokens(5000, 1)).processed(Row(4, 0.0f));
  EXPECT_LT(out[1], -1e30f);
  EXPECT_FALSE(std::isnan(out[1]));
  EXPECT_EQ(
      Sampler(p, 0, Tokens(5000, 1)).next(Row(4, 0.0f)).token == 1, false);
}

// The definition of version 2, with its own mu.
TEST(Mirostat, SecondVersionCutsAtMuAndLearns) {
  SamplingParameters p{
      .temperature = 0.8,
      .mirostat = 2,
      .mirostat_tau = 1,
      .mirostat_eta = 0.3f};
  Row row(50);
  for (int i = 0; i < 50; ++i)
    row[i] = static_cast<float>(std::sin(i * 7.0) * 4);
  std::vector<double> tempered;
  double total = 0;
  for (float x : row)
    total += tempered.emplace_back(std::exp(x / 0.8));
  Sampler sampler(p, 3, {});
  double mu = 2;
  std::size_t fewest = 50, most = 0;
  for (int i = 0; i < 60; ++i) {
    auto got = sampler.probabilities(row);
    double mass = 0;
    std::size_t count = 0;
    for (double x : tempered)
      if (-std::log2(x / total) <= mu) mass += x, ++count;
    ASSERT_EQ(got.size(), std::max<std::size_t>(count, 1)) << i;
    int token = sampler.next(row).token;
    double drawn = count ? tempered[token] / mass : 1;
    mu -= 0.3f * (-std::log2(drawn) - 1);
    fewest = std::min(fewest, got.size());
    most = std::max(most, got.size());
  }
  EXPECT_LT(fewest, most); // it did learn
}

TEST(Mirostat, FirstVersionKeepsAtLeastOneAndSettles) {
  SamplingParameters p{
      .temperature = 1, .mirostat = 1, .mirostat_tau = 2, .mirostat_eta = 0.1f};
  Row row(1000);
  for (int i = 0; i < 1000; ++i)
    row[i] = static_cast<float>(-1.1 * std::log(i + 1.0)); // Zipf
  Sampler sampler(p, 5, {});
  double surprise = 0;
  for (int i = 0; i < 400; ++i) {
    auto from = sampler.probabilities(row);
    ASSERT_FALSE(from.empty());
    int token = sampler.next(row).token;
    auto at = std::find_if(
        from.begin(), from.end(), [&](auto& e) { return e.token == token; });
    ASSERT_NE(at, from.end());
    if (i >= 200) surprise -= std::log2(at->probability) / 200;
  }
  EXPECT_NEAR(surprise, 2, 0.3);
}

TEST(Chain, RunsInTheOrderGiven) {
  auto row = logs({0.4, 0.3, 0.2, 0.1});
  SamplingParameters p{.temperature = 0.5, .top_p = 0.75f};
  // Before the temperature three tokens are needed for the mass, after it two:
  // squares of the probabilities are 0.53, 0.3, 0.13, 0.03.
  EXPECT_EQ(kept(p, row), (Tokens{0, 1, 2}));
  p.chain = {"temperature", "top_p"};
  EXPECT_EQ(kept(p, row), (Tokens{0, 1}));
  auto tempered = Sampler(p, 0, {}).probabilities(row);
  EXPECT_NEAR(tempered[0].probability, 16.0 / 25, 1e-5);
  // What is not named does not run, the temperature included.
  p.chain = {"top_k"};
  auto plain = Sampler(p, 0, {}).probabilities(row);
  ASSERT_EQ(plain.size(), 4u);
  EXPECT_NEAR(plain[0].probability, 0.4, 1e-5);
  p.repetition_penalty = 2.0f;
  EXPECT_EQ(Sampler(p, 0, Tokens{1}).processed(row), row);
  p.chain = {"penalties", "top_k"};
  EXPECT_NE(Sampler(p, 0, Tokens{1}).processed(row), row);
  p.logit_bias = {{0, 1.0f}}; // always
  EXPECT_FLOAT_EQ(Sampler(p, 0, {}).processed(row)[0], row[0] + 1);
}

TEST(Chain, SettingsKnowEveryStage) {
  for (const auto& stage : processors()) {
    GenerateParameters p;
    if (!stage.always) EXPECT_NO_THROW(set(p, "samplers", stage.name));
  }
  for (const auto& stage : filters()) {
    GenerateParameters p;
    EXPECT_NO_THROW(set(p, "samplers", stage.name));
  }
}

TEST(Chain, RefusesWhatItCannotRun) {
  GenerateParameters p;
  set(p, "samplers", "penalties;dry;top_n_sigma;top_k");
  set(p, "samplers", "typical_p,top_p,min_p,xtc,temperature");
  EXPECT_EQ(p.sampling.chain.size(), 9u);
  EXPECT_THROW(set(p, "samplers", "penalties"), Error); // after the filters
  p = {};
  EXPECT_THROW(set(p, "samplers", "top_q"), Error);
  p = {};
  p.sampling.chain = {"logit_bias"};
  EXPECT_THROW(validate(p), Error);
}

TEST(MinTokens, NoEndBefore) {
  SamplingParameters p{.temperature = 0, .min_tokens = 3, .end_tokens = {2}};
  Row row = {0, 1, 5, 2};
  Sampler sampler(p, 0, Tokens{7, 7});
  Tokens drawn;
  for (int i = 0; i < 5; ++i)
    drawn.push_back(sampler.next(row).token);
  EXPECT_EQ(drawn, (Tokens{3, 3, 3, 2, 2}));
}

TEST(TopLogprobs, TheMostLikelyInOrder) {
  SamplingParameters p{.temperature = 0, .top_logprobs = 3};
  auto drawn = Sampler(p, 0, {}).next(logs({0.1, 0.4, 0.1, 0.3, 0.1}));
  ASSERT_EQ(drawn.top.size(), 3u);
  EXPECT_EQ(drawn.top[0].token, 1);
  EXPECT_EQ(drawn.top[1].token, 3);
  EXPECT_EQ(drawn.top[2].token, 0);
  EXPECT_NEAR(drawn.top[1].logprob, std::log(0.3), 1e-5);
  EXPECT_NEAR(drawn.logprob, std::log(0.4), 1e-5);
}

} // namespace
} // namespace mlxlm

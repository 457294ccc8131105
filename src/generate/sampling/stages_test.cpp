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
      .dry_breaker_tokens = {{9}}};
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
  // What is a breaker itself goes unpunished.
  Tokens before = {3, 9, 1, 3};
  EXPECT_EQ(Sampler(p, 0, before).processed(row), row);
  // Only what is near enough counts.
  p.dry_penalty_last_n = 4;
  EXPECT_EQ(Sampler(p, 0, text).processed(row), row);
}

TEST(Dry, BreakersOfSeveralTokens) {
  SamplingParameters p{
      .temperature = 1,
      .dry_multiplier = 1,
      .dry_base = 1,
      .dry_allowed_length = 2,
      .dry_breaker_tokens = {{8, 9}, {7}, {8}}};
  Row row(10, 0.0f);
  auto punished = [&](const Tokens& text) {
    return Sampler(p, 0, text).processed(row)[4] < 0;
  };
  EXPECT_TRUE(punished({1, 2, 3, 4, 1, 2, 3}));
  EXPECT_FALSE(punished({1, 8, 3, 4, 1, 8, 3}));
  p.dry_breaker_tokens.pop_back(); // {8} alone is none now
  EXPECT_TRUE(punished({1, 8, 3, 4, 1, 8, 3}));
  EXPECT_TRUE(punished({8, 9, 2, 3, 4, 8, 9, 2, 3}));
  EXPECT_FALSE(punished({8, 9, 3, 4, 8, 9, 3}));
}

// Against every pair of places compared.
TEST(Dry, RepetitionsAreFoundWhereverTheyAre) {
  SamplingParameters p{
      .temperature = 1,
      .dry_multiplier = 1,
      .dry_base = 2,
      .dry_allowed_length = 1,
      .dry_breaker_tokens = {{5}}};
  for (int seed = 0; seed < 40; ++seed) {
    Tokens text;
    for (int i = 0; i < 60; ++i)
      text.push_back((i * i + seed * 7 + i / 3) % (2 + seed % 4));
    int end = static_cast<int>(text.size()), reach = 0;
    while (reach < end && text[end - 1 - reach] != 5)
      ++reach;
    std::map<int, int> longest;
    for (int at = 1; at < end; ++at) {
      int n = 0;
      while (n < std::min(reach, at) && text[at - 1 - n] == text[end - 1 - n])
        ++n;
      if (n > 0) longest[text[at]] = std::max(longest[text[at]], n);
    }
    auto out = Sampler(p, 0, text).processed(Row(6, 0.0f));
    for (int token = 0; token < 5; ++token)
      EXPECT_FLOAT_EQ(
          out[token],
          longest.count(token) ? -std::exp2(longest[token] - 1.0f) : 0)
          << seed;
  }
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

TEST(Mirostat, IsThereInsteadOfOtherFilters) {
  auto row = logs({0.4, 0.3, 0.2, 0.1});
  SamplingParameters p{
      .temperature = 1, .top_k = 1, .mirostat = 2, .mirostat_tau = 5};
  EXPECT_EQ(kept(p, row), (Tokens{0, 1, 2, 3}));
  p.chain = {"top_k", "temperature"}; // does not name it
  EXPECT_EQ(kept(p, row), (Tokens{0, 1, 2, 3}));
  p.chain = {"top_k", "mirostat", "temperature"};
  EXPECT_EQ(kept(p, row), (Tokens{0}));
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
    if (!stage.always) {
      EXPECT_NO_THROW(set(p, "samplers", stage.name));
    }
  }
  for (const auto& stage : filters()) {
    GenerateParameters p;
    EXPECT_NO_THROW(set(p, "samplers", stage.name));
  }
}

TEST(Chain, OtherSpellings) {
  using Names = std::vector<std::string>;
  GenerateParameters p;
  set(p, "samplers", "Top-K;typ_p;topp;temp");
  EXPECT_EQ(
      p.sampling.chain, (Names{"top_k", "typical_p", "top_p", "temperature"}));
  p = {};
  set(p, "samplers", "edskypmxt"); // llama.cpp's letters
  EXPECT_EQ(
      p.sampling.chain,
      (Names{
          "penalties",
          "dry",
          "top_n_sigma",
          "top_k",
          "typical_p",
          "top_p",
          "min_p",
          "xtc",
          "temperature"}));
}

TEST(Breakers, TheFirstReplacesTheUsual) {
  GenerateParameters p;
  EXPECT_FALSE(p.sampling.dry_sequence_breakers);
  set(p, "dry_sequence_breakers", "none");
  EXPECT_TRUE(p.sampling.dry_sequence_breakers->empty());
  set(p, "dry_sequence_breakers", "END");
  EXPECT_EQ(p.sampling.dry_sequence_breakers->size(), 1u);
  EXPECT_THROW(set(p, "dry_sequence_breakers", ""), Error);
  EXPECT_THROW(set(p, "dry_sequence_breakers", std::string(41, 'x')), Error);
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
  // What cannot be drawn is none of them.
  Row row = {0, -INFINITY, 1, -INFINITY};
  EXPECT_EQ(Sampler(p, 0, {}).next(row).top.size(), 2u);
}

} // namespace
} // namespace mlxlm

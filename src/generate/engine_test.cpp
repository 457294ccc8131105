// The engine over a runner without a model: order, limits, endings, failures.
#include "generate/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <numeric>
#include <set>

#include "mlxlm/error.h"

namespace mlxlm {
namespace {

// Draws prompt sum + position, modulo 1000. What it is told, it checks.
class FakeRunner final : public Runner {
 public:
  int open(std::uint64_t id, const RequestPtr& request) override {
    EXPECT_EQ(sequences_.count(id), 0u);
    int known = request->prompt[0] == 665 ? 3 : 0;
    sequences_[id] = {request, known, 0};
    return known;
  }
  void close(std::uint64_t id) override {
    sequences_.erase(id);
  }
  void start(const std::vector<Piece>& pieces) override {
    EXPECT_LE(passes_.size(), 1u);
    std::vector<Drawn> drawn;
    for (const auto& piece : pieces) {
      auto& s = sequences_.at(piece.id);
      if (!piece.decode) s.read += piece.count;
      if (!piece.samples) continue;
      EXPECT_EQ(s.read, static_cast<int>(s.request->prompt.size()));
      const auto& prompt = s.request->prompt;
      int sum = std::accumulate(prompt.begin(), prompt.end(), 0);
      if (prompt[0] == 666 && s.drawn == 2) throw std::runtime_error("boom");
      if (prompt[0] == 667 && s.drawn == 2)
        drawn.push_back({piece.id, -1, 0, "not finite"});
      else
        drawn.push_back({piece.id, (sum + s.drawn) % 1000, 0, {}});
      ++s.drawn;
    }
    passes_.push_back(std::move(drawn));
  }
  std::vector<Drawn> finish() override {
    auto drawn = std::move(passes_.front());
    passes_.pop_front();
    return drawn;
  }
  void abandon() override {
    passes_.clear();
  }
  void rewind(std::uint64_t) override {
    FAIL() << "without a budget nobody has to make way";
  }
  int resume(std::uint64_t) override {
    return 0;
  }
  void changed() override {
    ++changes;
  }
  PageCounts pages() const override {
    return {.in_use = static_cast<int>(sequences_.size())};
  }

  static inline std::atomic<int> changes = 0;

 private:
  struct Sequence {
    RequestPtr request;
    int read, drawn;
  };
  std::map<std::uint64_t, Sequence> sequences_;
  std::deque<std::vector<Drawn>> passes_;
};

struct Heard {
  std::vector<int> tokens;
  std::vector<PrefillProgress> progress;
  GenerateInfo info;
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest()
      : engine_(
            {.step_tokens = 8, .max_sequences = 4},
            [] { return std::make_unique<FakeRunner>(); },
            [] { return std::size_t{1}; }) {}

  std::shared_ptr<Channel> start(
      std::vector<int> prompt,
      int max_tokens,
      std::set<int> stops = {}) {
    Request request;
    request.channel = std::make_shared<Channel>(prompt.size() + max_tokens + 2);
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.stop_tokens = std::make_shared<const std::set<int>>(stops);
    auto channel = request.channel;
    engine_.submit({std::make_shared<const Request>(std::move(request))});
    return channel;
  }
  static Heard read(Channel& channel) {
    Heard answer;
    while (auto event = channel.events.pop()) {
      if (auto* t = std::get_if<TokenEvent>(&*event))
        answer.tokens.push_back(t->token);
      if (auto* p = std::get_if<PrefillProgress>(&*event))
        answer.progress.push_back(*p);
      if (auto* f = std::get_if<FinishedEvent>(&*event)) answer.info = f->info;
    }
    return answer;
  }
  Engine engine_;
};

TEST_F(EngineTest, TokensUntilTheLimit) {
  auto answer = read(*start({5, 6}, 4));
  EXPECT_EQ(answer.tokens, (std::vector<int>{11, 12, 13, 14}));
  EXPECT_EQ(answer.info.finish_reason, FinishReason::length);
  EXPECT_EQ(answer.info.prompt_tokens, 2);
  EXPECT_EQ(answer.info.generation_tokens, 4);
}

TEST_F(EngineTest, WhatIsRememberedIsNotReadAgain) {
  auto answer = read(*start({665, 1, 1, 1, 1}, 2));
  EXPECT_EQ(answer.tokens, (std::vector<int>{669, 670}));
  EXPECT_EQ(answer.info.cached_prompt_tokens, 3);
  EXPECT_EQ(answer.info.prompt_tokens, 2);
  EXPECT_EQ(answer.progress.back().processed, 5);
}

TEST_F(EngineTest, StopTokenIsNotEmitted) {
  auto answer = read(*start({5, 6}, 100, {13}));
  EXPECT_EQ(answer.tokens, (std::vector<int>{11, 12}));
  EXPECT_EQ(answer.info.finish_reason, FinishReason::stop);
  EXPECT_EQ(answer.info.generation_tokens, 3);
}

TEST_F(EngineTest, LongPromptReportsItsChunks) {
  auto answer = read(*start(std::vector<int>(20, 1), 1));
  ASSERT_EQ(answer.progress.size(), 3u);
  EXPECT_EQ(answer.progress[0].processed, 7);
  EXPECT_EQ(answer.progress[2].processed, 20);
  EXPECT_EQ(answer.progress[2].total, 20);
  EXPECT_EQ(answer.tokens, std::vector<int>{20});
}

TEST_F(EngineTest, ManyAtOnceEachGetsItsOwn) {
  std::vector<std::shared_ptr<Channel>> channels;
  for (int i = 1; i <= 50; ++i)
    channels.push_back(start(std::vector<int>(i % 13 + 1, i), 1 + i % 7));
  for (int i = 1; i <= 50; ++i) {
    auto answer = read(*channels[i - 1]);
    ASSERT_EQ(answer.tokens.size(), static_cast<std::size_t>(1 + i % 7));
    for (std::size_t k = 0; k < answer.tokens.size(); ++k)
      EXPECT_EQ(
          answer.tokens[k], (i * (i % 13 + 1) + static_cast<int>(k)) % 1000);
  }
}

TEST_F(EngineTest, CancelEndsOneAndNotTheOthers) {
  auto cancelled = start({1}, 1000000), other = start({2}, 50);
  cancelled->events.pop();
  cancelled->cancelled = true;
  auto answer = read(*cancelled);
  EXPECT_EQ(answer.info.finish_reason, FinishReason::cancelled);
  EXPECT_EQ(read(*other).tokens.size(), 50u);
}

TEST_F(EngineTest, OneBadRowEndsItsRequestOnly) {
  auto bad = start({667}, 10), good = start({1}, 10);
  auto answer = read(*bad);
  EXPECT_EQ(answer.info.finish_reason, FinishReason::error);
  EXPECT_EQ(answer.info.error, "not finite");
  EXPECT_EQ(answer.tokens.size(), 2u);
  EXPECT_EQ(read(*good).tokens.size(), 10u);
}

TEST_F(EngineTest, AFailedPassFailsItsRequestsAndTheEngineGoesOn) {
  auto answer = read(*start({666}, 10));
  EXPECT_EQ(answer.info.finish_reason, FinishReason::error);
  EXPECT_EQ(answer.info.error, "boom");
  EXPECT_EQ(read(*start({1}, 3)).tokens.size(), 3u);
}

TEST_F(EngineTest, PerformRunsOnTheEnginesThreadAndCarriesErrors) {
  std::thread::id there;
  engine_.perform([&] { there = std::this_thread::get_id(); });
  EXPECT_NE(there, std::this_thread::get_id());
  EXPECT_THROW(
      engine_.perform([] { throw Error(ErrorKind::request, "no"); }), Error);
}

TEST_F(EngineTest, OnlyWorkThatMayChangeTheModelForgetsWhatWasRecorded) {
  int before = FakeRunner::changes, pages = -1;
  engine_.look([&](const Runner& runner) { pages = runner.pages().in_use; });
  EXPECT_EQ(pages, 0);
  EXPECT_EQ(FakeRunner::changes, before);
  engine_.perform([] {});
  EXPECT_EQ(FakeRunner::changes, before + 1);
}

TEST(Engine, AFailedStartComesOut) {
  auto make = []() -> std::unique_ptr<Runner> {
    throw Error(ErrorKind::weights, "broken file");
  };
  EXPECT_THROW(Engine({}, make, [] { return std::size_t{0}; }), Error);
}

TEST(Engine, EndingItCancelsWhatRuns) {
  auto engine = std::make_unique<Engine>(
      SchedulerLimits{},
      [] { return std::make_unique<FakeRunner>(); },
      [] { return std::size_t{0}; });
  Request request;
  request.channel = std::make_shared<Channel>(1000);
  request.prompt = {1};
  request.max_tokens = 1 << 30;
  request.stop_tokens = std::make_shared<const std::set<int>>();
  auto channel = request.channel;
  engine->submit({std::make_shared<const Request>(std::move(request))});
  channel->events.pop();
  engine.reset();
  std::optional<EngineEvent> last;
  while (auto event = channel->events.pop())
    last = std::move(event);
  EXPECT_EQ(
      std::get<FinishedEvent>(*last).info.finish_reason,
      FinishReason::cancelled);
}

} // namespace
} // namespace mlxlm

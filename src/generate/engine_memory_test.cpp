// The engine within a memory budget: real pages, no model.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <set>

#include "cache/footprint.h"
#include "generate/engine.h"
#include "ledger/testing.h"

namespace mlxlm {
namespace {

constexpr int page_tokens = 16;

std::vector<CacheSpec> layers() {
  return {FullKv{1, 8}, SlidingKv{1, 8, 32}};
}

Footprint footprint() {
  return Footprint(layers(), {.page_tokens = page_tokens, .step_tokens = 64});
}

// What several engines of a test share.
struct Budget {
  std::size_t bytes;
  WiredMemoryPtr wired;
  WiredPolicyPtr policy;

  explicit Budget(std::size_t bytes) : bytes(bytes) {
    auto device = std::make_shared<FakeBackend>();
    device->has_limit = false;
    wired = make_wired_memory(device);
    policy = sum_policy(static_cast<std::int64_t>(bytes));
  }
};

struct Seen {
  std::size_t peak = 0; // bytes
  std::size_t together = 0; // sequences
  int rewound = 0;
};

// Draws prompt sum + position, modulo 1000, and keeps real pages.
class PagedRunner final : public Runner {
 public:
  PagedRunner(const Budget& budget, Seen& seen)
      : budget_(budget),
        seen_(seen),
        memory_(make_memory(
            layers(),
            {.page_tokens = page_tokens, .max_bytes = budget.bytes})) {}

  int open(std::uint64_t id, const RequestPtr& request) override {
    sequences_[id] = std::make_shared<Sequence>(request, memory_->sequence());
    seen_.together = std::max(seen_.together, sequences_.size());
    return 0;
  }
  void close(std::uint64_t id) override {
    sequences_.erase(id);
  }
  void rewind(std::uint64_t id) override {
    EXPECT_TRUE(passes_.empty());
    sequences_.at(id)->memory = memory_->sequence();
    ++seen_.rewound;
  }
  int resume(std::uint64_t) override {
    return 0;
  }
  void start(const std::vector<Piece>& pieces) override {
    Pass pass;
    for (const auto& piece : pieces) {
      pass.holds.push_back(sequences_.at(piece.id));
      auto& s = *pass.holds.back();
      s.memory->begin(piece.count); // throws where the ledger was wrong
      s.memory->commit(piece.count);
      if (!piece.samples) continue;
      const auto& prompt = s.request->prompt;
      EXPECT_EQ(s.memory->length(), static_cast<int>(prompt.size()) + s.drawn);
      int sum = std::accumulate(prompt.begin(), prompt.end(), 0);
      pass.drawn.push_back({piece.id, (sum + s.drawn++) % 1000, 0, {}});
    }
    seen_.peak = std::max(seen_.peak, memory_->bytes());
    passes_.push_back(std::move(pass));
  }
  std::vector<Drawn> finish() override {
    auto pass = std::move(passes_.front());
    passes_.pop_front();
    return std::move(pass.drawn);
  }
  void abandon() override {
    passes_.clear();
  }
  SequenceBudget budget() const override {
    return {budget_.wired, budget_.policy, budget_.bytes, [](int tokens) {
              return footprint().bytes_for(tokens);
            }};
  }

 private:
  struct Sequence {
    Sequence(RequestPtr r, std::unique_ptr<SequenceMemory> m)
        : request(std::move(r)), memory(std::move(m)) {}
    RequestPtr request;
    std::unique_ptr<SequenceMemory> memory;
    int drawn = 0;
  };
  struct Pass {
    std::vector<Drawn> drawn;
    std::vector<std::shared_ptr<Sequence>> holds; // and their pages
  };
  const Budget& budget_;
  Seen& seen_;
  std::unique_ptr<Memory> memory_;
  std::map<std::uint64_t, std::shared_ptr<Sequence>> sequences_;
  std::deque<Pass> passes_;
};

std::unique_ptr<Engine> engine(const Budget& budget, Seen& seen) {
  return std::make_unique<Engine>(
      SchedulerLimits{.step_tokens = 64},
      [&] { return std::make_unique<PagedRunner>(budget, seen); },
      [] { return std::size_t{0}; });
}

// A prompt of `prompt` twos; ends before token `answer`, where that is given,
// and after `most`.
std::shared_ptr<Channel> submit(
    Engine& engine,
    int prompt,
    int answer,
    int most,
    bool open_ended = false) {
  Request request;
  request.channel = std::make_shared<Channel>(prompt + most + 2);
  request.prompt.assign(prompt, 2);
  request.max_tokens = most;
  request.open_ended = open_ended;
  auto stop = (2 * prompt + answer - 1) % 1000;
  request.stop_tokens = std::make_shared<const std::set<int>>(
      answer > 0 ? std::set<int>{stop} : std::set<int>{});
  auto channel = request.channel;
  engine.submit({std::make_shared<const Request>(std::move(request))});
  return channel;
}

GenerateInfo read(Channel& channel, std::vector<int>* tokens = nullptr) {
  while (auto event = channel.events.pop()) {
    if (auto* t = std::get_if<TokenEvent>(&*event); t && tokens)
      tokens->push_back(t->token);
    if (auto* f = std::get_if<FinishedEvent>(&*event)) return f->info;
  }
  return {};
}

TEST(EngineMemory, TwoHundredWhereEightFit) {
  Budget budget(8 * footprint().bytes_for(200));
  Seen seen;
  auto e = engine(budget, seen);
  std::vector<std::shared_ptr<Channel>> channels;
  for (int i = 0; i < 200; ++i)
    channels.push_back(submit(*e, 20 + i % 90, 0, 10 + i % 100));
  for (int i = 0; i < 200; ++i) {
    std::vector<int> tokens;
    auto info = read(*channels[i], &tokens);
    ASSERT_EQ(info.finish_reason, FinishReason::length) << info.error;
    EXPECT_EQ(tokens.size(), static_cast<std::size_t>(10 + i % 100));
  }
  e.reset();
  EXPECT_GE(seen.together, 8u);
  EXPECT_LE(seen.peak, budget.bytes * 21 / 20);
  EXPECT_EQ(seen.rewound, 0);
  EXPECT_EQ(budget.wired->status().active, 0);
}

TEST(EngineMemory, TwoHundredThatDoNotSayHowLong) {
  Budget budget(8 * footprint().bytes_for(800));
  Seen seen;
  auto e = engine(budget, seen);
  int most = footprint().tokens_within(budget.bytes, 1 << 20);
  std::vector<std::shared_ptr<Channel>> channels;
  for (int i = 0; i < 200; ++i)
    channels.push_back(submit(*e, 20 + i, 1 + i * 7 % 900, most, true));
  for (int i = 0; i < 200; ++i) {
    std::vector<int> tokens;
    auto info = read(*channels[i], &tokens);
    ASSERT_EQ(info.finish_reason, FinishReason::stop) << i << info.error;
    ASSERT_EQ(tokens.size(), static_cast<std::size_t>(i * 7 % 900)) << i;
    for (std::size_t k = 0; k < tokens.size(); ++k)
      ASSERT_EQ(tokens[k], (2 * (20 + i) + static_cast<int>(k)) % 1000);
    EXPECT_EQ(info.prompt_tokens, 20 + i);
  }
  e.reset();
  EXPECT_GT(seen.together, 8u); // nobody holds what he does not need
  EXPECT_GT(seen.rewound, 0);
  EXPECT_LT(seen.rewound, 400);
  EXPECT_LE(seen.peak, budget.bytes * 21 / 20);
}

TEST(EngineMemory, AnOpenEndedOneMayUseAllThatThereIs) {
  Budget budget(footprint().bytes_for(3000));
  Seen seen;
  auto e = engine(budget, seen);
  int most = footprint().tokens_within(budget.bytes, 1 << 20) - 100;
  auto first = submit(*e, 100, 0, most, false);
  auto long_one = submit(*e, 100, 0, most, true);
  EXPECT_EQ(read(*first).generation_tokens, most);
  auto info = read(*long_one);
  EXPECT_EQ(info.finish_reason, FinishReason::length) << info.error;
  EXPECT_EQ(info.generation_tokens, most);
}

TEST(EngineMemory, WhatNeverFitsIsRefusedWithTheSizes) {
  Budget budget(footprint().bytes_for(100));
  Seen seen;
  auto e = engine(budget, seen);
  auto refused = submit(*e, 5000, 0, 5000);
  auto good = submit(*e, 50, 0, 5);
  auto info = read(*refused);
  EXPECT_EQ(info.finish_reason, FinishReason::error);
  EXPECT_NE(info.error.find("expected a request within"), std::string::npos);
  EXPECT_NE(info.error.find("found one of"), std::string::npos);
  EXPECT_EQ(read(*good).generation_tokens, 5);
}

TEST(EngineMemory, OneThatWaitsCanBeCancelled) {
  Budget budget(footprint().bytes_for(1100));
  Seen seen;
  auto e = engine(budget, seen);
  auto other = make_ticket(1, budget.policy); // somebody else's
  ASSERT_EQ(budget.wired->start(other).outcome, WiredStart::Outcome::started);
  auto waits = submit(*e, 100, 0, 1000);
  while (budget.wired->status().waiting == 0)
    std::this_thread::yield();
  waits->cancelled = true;
  EXPECT_EQ(read(*waits).finish_reason, FinishReason::cancelled);
  EXPECT_EQ(budget.wired->status().waiting, 0);
  auto next = submit(*e, 100, 0, 1000);
  while (budget.wired->status().waiting == 0)
    std::this_thread::yield();
  budget.wired->end(other);
  EXPECT_EQ(read(*next).generation_tokens, 1000);
}

TEST(EngineMemory, EnginesShareABudget) {
  Budget budget(4 * footprint().bytes_for(300));
  Seen seen[2];
  auto a = engine(budget, seen[0]), b = engine(budget, seen[1]);
  std::vector<std::shared_ptr<Channel>> channels;
  for (int i = 0; i < 40; ++i)
    channels.push_back(submit(i % 2 ? *a : *b, 200, 0, 100));
  for (auto& channel : channels) {
    auto info = read(*channel);
    EXPECT_EQ(info.generation_tokens, 100) << info.error;
  }
  auto last = submit(*a, 200, 0, 100); // one that waits when its engine ends
  b.reset();
  a.reset();
  EXPECT_EQ(budget.wired->status().active, 0);
  EXPECT_EQ(budget.wired->status().waiting, 0);
}

TEST(EngineMemory, ThePolicyOfAnEngineIsItsOwn) {
  auto a = engine_policy(100), b = engine_policy(100);
  EXPECT_NE(a->id(), b->id());
  EXPECT_TRUE(a->can_admit({1000, 50, {60, 30}}, 10)); // whatever the baseline
  EXPECT_FALSE(a->can_admit({0, {}, {60, 30}}, 11));
  EXPECT_EQ(a->limit({10, {}, {60, 30}}), 100);
  EXPECT_EQ(a->limit({10, 70, {60, 30}}), 70);
}

} // namespace
} // namespace mlxlm

// Two hundred requests where eight fit, with a model and what it keeps of
// prefixes: none fails, none waits for ever, and the memory stays within its
// budget.
#include <gtest/gtest.h>

#include <algorithm>

#include "cache/footprint.h"
#include "generate/engine.h"
#include "generate/turns_testing.h"
#include "ledger/testing.h"

namespace mlxlm::prefixes {
namespace {

using turns::append;
using turns::random_tokens;

constexpr int step_tokens = 128;

// A runner whose memory is looked at after every call.
class WatchedRunner final : public Runner {
 public:
  WatchedRunner(
      std::unique_ptr<Runner> inside,
      std::shared_ptr<Memory> memory,
      std::size_t& peak)
      : inside_(std::move(inside)), memory_(std::move(memory)), peak_(peak) {}

  int open(std::uint64_t id, const RequestPtr& request) override {
    int cached = inside_->open(id, request);
    look();
    return cached;
  }
  void close(std::uint64_t id) override {
    inside_->close(id);
    look();
  }
  void start(const std::vector<Piece>& pieces) override {
    inside_->start(pieces);
    look();
  }
  std::vector<Drawn> finish() override {
    auto drawn = inside_->finish();
    look();
    return drawn;
  }
  void abandon() override {
    inside_->abandon();
  }
  int state_tokens() const override {
    return inside_->state_tokens();
  }
  SequenceBudget budget() const override {
    return inside_->budget();
  }
  void rewind(std::uint64_t id) override {
    inside_->rewind(id);
    look();
  }
  int resume(std::uint64_t id) override {
    return inside_->resume(id);
  }
  int shared_tokens() const override {
    return inside_->shared_tokens();
  }
  bool leave_at(std::uint64_t id, int tokens) override {
    return inside_->leave_at(id, tokens);
  }
  int look_again(std::uint64_t id) override {
    return inside_->look_again(id);
  }

 private:
  void look() {
    peak_ = std::max(peak_, memory_->bytes());
  }
  std::unique_ptr<Runner> inside_;
  std::shared_ptr<Memory> memory_;
  std::size_t& peak_;
};

// An engine with a tiny model whose sequences take at most `bytes`.
struct SmallEngine {
  SmallEngine(const char* family, std::size_t bytes) {
    auto device = std::make_shared<FakeBackend>();
    device->has_limit = false;
    auto wired = make_wired_memory(device);
    engine = std::make_unique<Engine>(
        SchedulerLimits{.step_tokens = step_tokens},
        [&]() -> std::unique_ptr<Runner> {
          auto model = turns::tiny_model(family, 8);
          auto specs = model->caches();
          Footprint footprint(specs, {.step_tokens = step_tokens});
          limit = bytes > 0 ? bytes : 8 * footprint.bytes_for(300);
          std::shared_ptr<Memory> memory =
              make_memory(specs, {.max_bytes = limit});
          SequenceBudget budget{
              wired,
              sum_policy(static_cast<std::int64_t>(limit)),
              limit,
              [footprint](int tokens) { return footprint.bytes_for(tokens); }};
          return std::make_unique<WatchedRunner>(
              std::make_unique<ModelRunner>(model, memory, budget),
              memory,
              peak);
        },
        [] { return std::size_t{0}; });
  }
  std::size_t limit = 0, peak = 0;
  std::unique_ptr<Engine> engine; // first to go
};

struct Asked {
  std::vector<int> prompt;
  int count;
};

// A conversation's first message, one of three, and what is its own.
Asked asked(unsigned i) {
  auto prompt = random_tokens(100 + 30 * int(i % 3), i % 3);
  append(prompt, random_tokens(10 + int(i * 7 % 90), 1000 + i));
  return {prompt, 5 + int(i % 40)};
}

std::shared_ptr<Channel> submit(Engine& engine, const Asked& what, bool share) {
  auto request = turns::greedy(what.prompt);
  request->stop_tokens = std::make_shared<const std::set<int>>();
  request->max_tokens = what.count;
  request->share_prefix = share;
  request->channel = std::make_shared<Channel>(what.prompt.size() + 100);
  engine.submit({request});
  return request->channel;
}

std::vector<int> answer(Channel& channel, GenerateInfo& info) {
  std::vector<int> tokens;
  while (auto event = channel.events.pop()) {
    if (auto* t = std::get_if<TokenEvent>(&*event)) tokens.push_back(t->token);
    if (auto* f = std::get_if<FinishedEvent>(&*event)) info = f->info;
  }
  return tokens;
}

class WithinABudget : public ::testing::TestWithParam<const char*> {};

TEST_P(WithinABudget, TwoHundredWhereEightFit) {
  SmallEngine small(GetParam(), 0), large(GetParam(), std::size_t{1} << 40);
  std::vector<std::shared_ptr<Channel>> channels;
  for (unsigned i = 0; i < 200; ++i)
    channels.push_back(submit(*small.engine, asked(i), true));
  int cached = 0;
  for (unsigned i = 0; i < 200; ++i) {
    GenerateInfo info;
    auto tokens = answer(*channels[i], info);
    ASSERT_EQ(info.finish_reason, FinishReason::length) << info.error;
    ASSERT_EQ(int(tokens.size()), asked(i).count);
    cached += info.cached_prompt_tokens > 0;
    if (i % 20 != 0) continue;
    auto alone = submit(*large.engine, asked(i), false);
    EXPECT_EQ(tokens, answer(*alone, info)) << i;
    EXPECT_EQ(info.cached_prompt_tokens, 0);
  }
  EXPECT_GT(cached, 100);
  small.engine->perform([&] {
    EXPECT_LE(small.peak, small.limit * 21 / 20);
    EXPECT_GE(small.peak, small.limit / 2);
  });
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    WithinABudget,
    ::testing::Values("llama", "gemma3_text", "qwen3_5_text", "nemotron_h"),
    [](const auto& info) { return std::string(info.param); });

} // namespace
} // namespace mlxlm::prefixes

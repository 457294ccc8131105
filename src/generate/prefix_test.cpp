// A second turn reads only what is new, and draws what a whole reading draws:
// dense models, those with windows and those with recurrent states.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cmath>

#include "generate/turns_testing.h"

namespace mlxlm {
namespace {

using turns::Answer;
using turns::append;
using turns::random_tokens;
using turns::stop;

// A runner and what an engine does with it, one request at a time.
class Turns {
 public:
  explicit Turns(const char* family, MemoryOptions options = {}) {
    model_ = turns::tiny_model(family, 8);
    memory_ = make_memory(model_->caches(), options);
    runner_ = std::make_unique<ModelRunner>(model_, memory_);
  }

  Answer ask(const std::vector<int>& prompt, int count, bool share = true) {
    auto request = turns::greedy(prompt);
    request->logprobs = true;
    request->share_prefix = share;
    return turns::ask(*runner_, ++id_, request, count);
  }

  Memory& memory() {
    return *memory_;
  }

 private:
  std::shared_ptr<const Model> model_;
  std::shared_ptr<Memory> memory_;
  std::unique_ptr<ModelRunner> runner_;
  std::uint64_t id_ = 0;
};

class Prefixes : public ::testing::TestWithParam<const char*> {
 protected:
  static void expect_same(const Answer& a, const Answer& b) {
    EXPECT_EQ(a.tokens, b.tokens);
    for (std::size_t i = 0; i < a.logprobs.size(); ++i)
      EXPECT_NEAR(a.logprobs[i], b.logprobs[i], 1e-4) << i;
  }
};

TEST_P(Prefixes, ASecondTurnReadsOnlyWhatIsNew) {
  Turns turns(GetParam()), whole(GetParam());
  auto text = random_tokens(4000, 1);
  auto first = turns.ask(text, 20);
  EXPECT_EQ(first.cached, 0);
  append(text, first.tokens);
  append(text, random_tokens(30, 2));
  auto second = turns.ask(text, 6);
  // The last token drawn was never read.
  EXPECT_EQ(second.cached, 4019);
  expect_same(second, whole.ask(text, 6, false));
  // And a third.
  append(text, second.tokens);
  append(text, random_tokens(3, 3));
  auto third = turns.ask(text, 6);
  EXPECT_EQ(third.cached, 4055);
  expect_same(third, whole.ask(text, 6, false));
}

// Templates leave out what was thought: the next prompt goes on from the end
// of the one before.
TEST_P(Prefixes, ATurnThatDropsTheAnswerKeepsThePrompt) {
  Turns turns(GetParam()), whole(GetParam());
  auto text = random_tokens(2000, 1);
  turns.ask(text, 200);
  append(text, random_tokens(40, 7));
  auto second = turns.ask(text, 6);
  EXPECT_GE(second.cached, 2000 / 64 * 64);
  expect_same(second, whole.ask(text, 6, false));
}

TEST_P(Prefixes, ConversationsShareTheirFirstMessage) {
  Turns turns(GetParam()), whole(GetParam());
  auto system = random_tokens(700, 1);
  system.push_back(stop);
  auto one = system, other = system;
  append(one, random_tokens(50, 2));
  append(other, random_tokens(60, 3));
  turns.ask(one, 5);
  auto second = turns.ask(other, 6);
  EXPECT_GE(second.cached, 640);
  expect_same(second, whole.ask(other, 6, false));
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    Prefixes,
    ::testing::Values(
        "llama",
        "gemma3_text",
        "qwen3_5_text",
        "nemotron_h",
        "falcon_h1",
        "lfm2"),
    [](const auto& info) { return std::string(info.param); });

TEST(Prefix, PackedPagesAreSharedToo) {
  for (const char* family : {"llama", "qwen3_5_text"}) {
    using kernels::RowCodec;
    RowCodec codec{RowCodec::Kind::turbo, 4};
    MemoryOptions packed{.storage = {.keys = codec, .values = codec}};
    Turns turns(family, packed), whole(family, packed);
    auto text = random_tokens(900, 1);
    append(text, turns.ask(text, 20).tokens);
    append(text, random_tokens(30, 2));
    auto second = turns.ask(text, 6);
    EXPECT_EQ(second.cached, 919);
    EXPECT_EQ(second.tokens, whole.ask(text, 6, false).tokens);
  }
}

// A memory that forgets the middle of a long text (--max-kv-size).
TEST(Prefix, LimitedMemoryDrawsWhatAWholeReadingDraws) {
  for (const char* family : {"llama", "gemma3_text", "qwen3_5_text"})
    for (int length : {200, 300, 900, 2000}) {
      SCOPED_TRACE(fmt::format("{} {}", family, length));
      MemoryOptions limited{.max_tokens = 256};
      Turns turns(family, limited), whole(family, limited);
      auto text = random_tokens(length, 1);
      append(text, turns.ask(text, 20).tokens);
      append(text, random_tokens(30, 2));
      auto second = turns.ask(text, 6), other = whole.ask(text, 6, false);
      EXPECT_EQ(second.cached, length + 19);
      EXPECT_EQ(second.tokens, other.tokens);
      for (std::size_t i = 0; i < second.logprobs.size(); ++i)
        EXPECT_NEAR(second.logprobs[i], other.logprobs[i], 1e-4) << i;
    }
}

// Sequences that read the same prompt in the same pass.
class AtOnce {
 public:
  AtOnce(const char* family, int count, const std::vector<int>& prompt)
      : count_(count) {
    auto model = turns::tiny_model(family, 8);
    memory_ = make_memory(model->caches(), {});
    runner_ = std::make_unique<ModelRunner>(model, memory_);
    auto request = turns::greedy(prompt);
    for (int id = 1; id <= count; ++id)
      EXPECT_EQ(runner_->open(static_cast<std::uint64_t>(id), request), 0);
    pass(static_cast<int>(prompt.size()), false);
  }

  // The token that all have drawn.
  int pass(int count, bool decode) {
    std::vector<Piece> pieces;
    for (int id = 1; id <= count_; ++id)
      pieces.push_back({static_cast<std::uint64_t>(id), count, decode, true});
    runner_->start(pieces);
    auto drawn = runner_->finish();
    for (const auto& d : drawn) {
      EXPECT_EQ(d.error, "");
      EXPECT_EQ(d.token, drawn[0].token);
    }
    return drawn[0].token;
  }
  std::size_t bytes() const {
    return memory_->bytes();
  }

 private:
  int count_;
  std::shared_ptr<Memory> memory_;
  std::unique_ptr<ModelRunner> runner_;
};

TEST(Prefix, EqualPromptsReadAtOnceAreKeptOnce) {
  for (const char* family : {"llama", "gemma3_text", "qwen3_5_text"}) {
    SCOPED_TRACE(family);
    auto text = random_tokens(1000, 1);
    AtOnce one(family, 1, text), four(family, 4, text);
    bool states = std::string(family) == "qwen3_5_text"; // each has its own
    if (!states) {
      EXPECT_LT(four.bytes(), one.bytes() * 3 / 2);
    }
    for (int i = 0; i < 5; ++i)
      EXPECT_EQ(one.pass(1, true), four.pass(1, true));
  }
}

// What passes under way were to write may never have been written.
TEST(Prefix, NothingIsKeptOfPassesThatFailed) {
  auto model = turns::tiny_model("llama", 8);
  std::shared_ptr<Memory> memory = make_memory(model->caches(), {});
  ModelRunner runner(model, memory);
  auto text = random_tokens(300, 1);
  auto first = turns::ask(runner, 1, turns::greedy(text), 4);
  auto longer = text;
  append(longer, random_tokens(100, 2));
  int cached = runner.open(2, turns::greedy(longer));
  EXPECT_GE(cached, 300);
  runner.start({{2, 400 - cached, false, true}});
  runner.abandon();
  runner.close(2);
  EXPECT_EQ(memory->bytes(), 0u);
  auto again = turns::ask(runner, 3, turns::greedy(text), 4);
  EXPECT_EQ(again.cached, 0);
  EXPECT_EQ(again.tokens, first.tokens);
}

// What is kept for others gives way to a sequence that needs the room.
TEST(Prefix, GivesWayWithinTheBudget) {
  Turns turns("llama");
  auto page = turns.memory().bytes_for(1);
  Turns small("llama", {.max_bytes = 20 * page});
  for (unsigned i = 0; i < 10; ++i) {
    small.ask(random_tokens(600, i), 10);
    EXPECT_LE(small.memory().bytes(), 20 * page);
  }
  EXPECT_EQ(small.ask(random_tokens(600, 9), 1).cached, 599);
}

} // namespace
} // namespace mlxlm

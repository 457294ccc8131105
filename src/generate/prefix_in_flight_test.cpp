// Prompts that begin alike and arrive together are read once: whoever comes
// second waits for what the first reads, and reads by itself where the first
// goes.
#include <gtest/gtest.h>

#include "generate/engine.h"
#include "generate/turns_testing.h"

namespace mlxlm {
namespace {

using turns::append;
using turns::random_tokens;

class TogetherTest : public ::testing::TestWithParam<const char*> {
 protected:
  TogetherTest()
      : engine_(
            {.step_tokens = 128},
            [] {
              auto model = turns::tiny_model(GetParam(), 8);
              std::shared_ptr<Memory> memory = make_memory(model->caches(), {});
              return std::make_unique<ModelRunner>(model, memory);
            },
            [] { return std::size_t{0}; }) {}

  static std::shared_ptr<Request> asks(
      const std::vector<int>& prompt,
      bool share = true) {
    auto request = turns::greedy(prompt);
    request->stop_tokens = std::make_shared<const std::set<int>>();
    request->max_tokens = 6;
    request->share_prefix = share;
    request->channel = std::make_shared<Channel>(prompt.size() + 20);
    return request;
  }

  static std::shared_ptr<Request> salted(
      const std::vector<int>& prompt,
      const std::string& salt) {
    auto request = asks(prompt);
    request->cache_salt = salt;
    return request;
  }

  struct Heard {
    std::vector<int> tokens;
    GenerateInfo info;
  };
  static Heard hear(const RequestPtr& request) {
    Heard heard;
    while (auto event = request->channel->events.pop()) {
      if (auto* t = std::get_if<TokenEvent>(&*event))
        heard.tokens.push_back(t->token);
      if (auto* f = std::get_if<FinishedEvent>(&*event)) heard.info = f->info;
    }
    EXPECT_EQ(heard.info.finish_reason, FinishReason::length)
        << heard.info.error;
    return heard;
  }
  std::vector<int> alone(const std::vector<int>& prompt) {
    auto request = asks(prompt, false);
    engine_.submit({request});
    return hear(request).tokens;
  }

  Engine engine_;
};

TEST_P(TogetherTest, EqualPromptsAreReadOnce) {
  auto prompt = random_tokens(1000, 1);
  std::vector<RequestPtr> requests;
  for (int i = 0; i < 4; ++i)
    requests.push_back(asks(prompt));
  engine_.submit(requests);
  std::vector<Heard> heard;
  for (const auto& request : requests)
    heard.push_back(hear(request));
  EXPECT_EQ(heard[0].info.cached_prompt_tokens, 0);
  auto expected = alone(prompt);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(heard[i].tokens, expected) << i;
    const auto& info = heard[i].info;
    EXPECT_EQ(info.cached_prompt_tokens + info.prompt_tokens, 1000);
    EXPECT_EQ(info.cached_prompt_tokens, i > 0 ? 960 : 0) << i;
  }
}

TEST_P(TogetherTest, OnlyWhatBeginsAlikeIsWaitedFor) {
  auto begin = random_tokens(600, 2);
  auto first = begin, second = begin, other = random_tokens(600, 3);
  append(first, random_tokens(900, 4));
  append(second, random_tokens(50, 5));
  std::vector<RequestPtr> requests{asks(first), asks(second), asks(other)};
  engine_.submit(requests);
  auto one = hear(requests[0]), two = hear(requests[1]),
       three = hear(requests[2]);
  EXPECT_EQ(two.info.cached_prompt_tokens, 576); // whole pages of 600
  EXPECT_EQ(one.info.cached_prompt_tokens, 0);
  EXPECT_EQ(three.info.cached_prompt_tokens, 0);
  // Before the rest of the first.
  EXPECT_LT(
      two.info.queue_time + two.info.prompt_time,
      one.info.queue_time + one.info.prompt_time);
  EXPECT_EQ(one.tokens, alone(first));
  EXPECT_EQ(two.tokens, alone(second));
  EXPECT_EQ(three.tokens, alone(other));
}

TEST_P(TogetherTest, WhoArrivesLaterFindsWhatIsRead) {
  auto begin = random_tokens(256, 2);
  auto first = begin, second = begin;
  append(first, random_tokens(3000, 4));
  append(second, random_tokens(50, 5));
  auto one = asks(first), two = asks(second);
  engine_.submit({one});
  for (;;) { // until more is read than both have
    auto event = one->channel->events.pop();
    auto* progress = std::get_if<PrefillProgress>(&*event);
    ASSERT_TRUE(progress);
    if (progress->processed > 400) break;
  }
  engine_.submit({two});
  auto heard = hear(two);
  // A window or a state is as far on as the first is.
  bool steady = std::string(GetParam()) == "llama";
  EXPECT_GE(heard.info.cached_prompt_tokens, steady ? 256 : 0);
  EXPECT_EQ(hear(one).tokens, alone(first));
  EXPECT_EQ(heard.tokens, alone(second));
}

TEST_P(TogetherTest, WhenTheFirstGoesTheSecondReads) {
  auto prompt = random_tokens(3000, 6);
  std::vector<RequestPtr> requests{asks(prompt), asks(prompt), asks(prompt)};
  engine_.submit(requests);
  auto event = requests[0]->channel->events.pop();
  ASSERT_TRUE(std::get_if<PrefillProgress>(&*event));
  requests[0]->channel->cancelled = true;
  auto two = hear(requests[1]), three = hear(requests[2]);
  // The third then waits for the second.
  EXPECT_GE(three.info.cached_prompt_tokens, 2944);
  auto expected = alone(prompt);
  EXPECT_EQ(two.tokens, expected);
  EXPECT_EQ(three.tokens, expected);
}

// Neither waited for nor found, and answered alike.
TEST_P(TogetherTest, NothingCrossesSalts) {
  auto prompt = random_tokens(1000, 7);
  std::vector<RequestPtr> requests;
  for (const char* salt : {"", "a", "b", "a", "b", ""})
    requests.push_back(salted(prompt, salt));
  engine_.submit(requests);
  auto expected = alone(prompt);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    auto heard = hear(requests[i]);
    EXPECT_EQ(heard.tokens, expected) << i;
    EXPECT_EQ(heard.info.cached_prompt_tokens, i < 3 ? 0 : 960) << i;
  }
  for (const char* salt : {"b", "c"}) {
    auto later = salted(prompt, salt);
    engine_.submit({later});
    EXPECT_EQ(hear(later).info.cached_prompt_tokens > 0, *salt == 'b');
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    TogetherTest,
    ::testing::Values("llama", "gemma3_text", "qwen3_5_text", "nemotron_h"),
    [](const auto& info) { return std::string(info.param); });

} // namespace
} // namespace mlxlm

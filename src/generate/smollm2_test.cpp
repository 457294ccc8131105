// The default model through the public interface; skipped where it is not
// installed.
#include <gtest/gtest.h>

#include <set>

#include "generate/default_model_testing.h"
#include "generate/sampling/sampler.h"
#include "mlxlm/chat.h"
#include "mlxlm/error.h"
#include "mlxlm/model.h"

namespace mlxlm {
namespace {

class SmolLM2 : public WithDefaultModel {
 protected:
  static std::vector<int> tokens(Generation& generation) {
    std::vector<int> result;
    while (auto event = generation.next())
      if (auto* chunk = std::get_if<TextChunk>(&*event))
        result.insert(result.end(), chunk->tokens.begin(), chunk->tokens.end());
    EXPECT_NE(generation.info().finish_reason, FinishReason::error)
        << generation.info().error;
    return result;
  }
  static GenerateParameters greedy(int max_tokens) {
    GenerateParameters p{.sampling = {.temperature = 0}};
    p.max_tokens = max_tokens;
    return p;
  }
};

TEST_F(SmolLM2, AnswersSensibly) {
  ChatSession chat(model_, {.parameters = greedy(40)});
  auto answer = chat.respond("What is the capital of France?");
  EXPECT_NE(answer.find("Paris"), std::string::npos) << answer;
}

std::vector<std::vector<int>> prompts_of(
    const ModelContainer& model,
    int count) {
  std::vector<std::vector<int>> result;
  for (int i = 0; i < count; ++i) {
    std::string text = "Story number " + std::to_string(i) + ":";
    for (int k = 0; k < i * i / 32; ++k)
      text += " and then " + std::to_string(k * i);
    result.push_back(model.encode(text));
  }
  return result;
}

TEST_F(SmolLM2, TogetherAsAlone) {
  auto all = prompts_of(*model_, 32);
  for (double temperature : {0.0, 0.8}) {
    auto p = greedy(temperature == 0 ? 24 : 8);
    p.sampling.temperature = temperature;
    p.seed = 5;
    std::vector<std::vector<int>> alone;
    for (const auto& prompt : all)
      alone.push_back(tokens(*model_->generate(prompt, p)));
    std::vector<GenerationPtr> running;
    for (const auto& prompt : all)
      running.push_back(model_->generate(prompt, p));
    for (std::size_t i = 0; i < all.size(); ++i)
      EXPECT_EQ(tokens(*running[i]), alone[i]) << i << " at " << temperature;
  }
}

TEST_F(SmolLM2, ConversationReadsOnlyWhatIsNew) {
  ChatSession chat(model_, {.parameters = greedy(12)});
  chat.respond("Name a colour.");
  auto first = chat.info().prompt_tokens;
  EXPECT_EQ(chat.info().cached_prompt_tokens, 0);
  chat.respond("Another one.");
  EXPECT_GE(chat.info().cached_prompt_tokens, first);
  EXPECT_LT(chat.info().prompt_tokens, 30);
  auto known = chat.transcript();
  ASSERT_GE(known.size(), 4u);

  // The same conversation without a cache gives the same answer.
  auto last = known.back();
  known.pop_back();
  auto ids = model_->apply_chat_template(
      {.messages = to_json(known), .add_generation_prompt = true});
  EXPECT_EQ(model_->generate(ids, greedy(12))->text(), last.content);
}

TEST_F(SmolLM2, SeveralAnswersReadOnePrompt) {
  std::string text = "Once upon a time";
  for (int i = 0; i < 50; ++i)
    text += " there were " + std::to_string(i * 7) + " bears";
  auto prompt = model_->encode(text);
  auto p = greedy(12);
  p.sampling.temperature = 0.9f;
  p.seed = 11;
  auto answers = model_->generate_several(prompt, p, 3);
  std::set<std::vector<int>> different;
  int cached = 0, read = 0;
  for (auto& answer : answers) {
    different.insert(tokens(*answer));
    cached += answer->info().cached_prompt_tokens;
    read += answer->info().prompt_tokens;
  }
  auto all = static_cast<int>(prompt.size());
  EXPECT_EQ(different.size(), 3u);
  EXPECT_GT(cached, 2 * (all - 64));
  EXPECT_EQ(cached + read, 3 * all);
  EXPECT_TRUE(different.count(tokens(*model_->generate(prompt, p))));
  EXPECT_THROW(model_->generate_several(prompt, p, 0), Error);
}

TEST_F(SmolLM2, StopTextsAcrossTokens) {
  auto prompt = model_->encode("1, 2, 3, 4, 5, 6, 7,");
  auto whole = model_->generate(prompt, greedy(20))->text();
  auto p = greedy(20);
  p.stop = {whole.substr(5, 4)};
  auto generation = model_->generate(prompt, p);
  EXPECT_EQ(generation->text(), whole.substr(0, whole.find(p.stop[0])));
  EXPECT_EQ(generation->info().finish_reason, FinishReason::stop);
  EXPECT_EQ(generation->info().stop_text, p.stop[0]);
}

TEST_F(SmolLM2, CancelAndRefusals) {
  auto generation =
      model_->generate(model_->encode("Once upon a time"), greedy(2000));
  generation->next();
  generation->cancel();
  while (generation->next()) {
  }
  EXPECT_EQ(generation->info().finish_reason, FinishReason::cancelled);
  EXPECT_LT(generation->info().generation_tokens, 1000);

  std::vector<int> longer(model_->context_length(), 1);
  EXPECT_THROW(model_->generate(longer, greedy(1)), Error);
  EXPECT_THROW(model_->generate({}, greedy(1)), Error);
  EXPECT_THROW(model_->generate({1 << 20}, greedy(1)), Error);
  EXPECT_EQ(model_->generate({1}, greedy(0))->text(), "");
}

TEST_F(SmolLM2, SequencesStayWithinTheirBudget) {
  auto page = 64 * inspect("smollm2").kv_bytes_per_token;
  LoadOptions options;
  options.max_kv_bytes = 2 * page;
  auto small = load("smollm2", options);
  auto prompt = small->encode("Once upon a time");
  auto count = static_cast<int>(prompt.size());

  auto refused = small->generate(prompt, greedy(500));
  try {
    refused->text();
    ADD_FAILURE() << "a sequence larger than all memory";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::resource) << e.what();
  }
  EXPECT_NE(refused->info().error.find("sequence memory"), std::string::npos)
      << refused->info().error;

  // Without a number it gets what fits.
  auto open = greedy(0);
  open.max_tokens.reset();
  open.ignore_eos = true;
  auto longest = small->generate(prompt, open);
  longest->text();
  EXPECT_EQ(longest->info().finish_reason, FinishReason::length);
  EXPECT_EQ(count + longest->info().generation_tokens, 128);

  // Each takes all there is: they wait for one another.
  std::vector<GenerationPtr> waiting;
  for (int i = 0; i < 3; ++i)
    waiting.push_back(small->generate(prompt, greedy(100)));
  for (auto& generation : waiting)
    EXPECT_FALSE(tokens(*generation).empty());
}

TEST_F(SmolLM2, DraftedAnswersAreTheSameAndTakeFewerPasses) {
  auto repeat = model_->encode(
      "one two three four five six seven, one two three four five six seven, "
      "one two three four five six seven, one two");
  auto other = model_->encode("Once upon a time");
  auto plain = greedy(48), drafted = greedy(48);
  drafted.draft.kind = DraftKind::prompt_lookup;
  auto first = tokens(*model_->generate(repeat, plain));
  auto second = tokens(*model_->generate(other, plain));

  auto running = model_->generate(repeat, drafted);
  EXPECT_EQ(tokens(*running), first);
  const auto& counts = running->info().draft;
  EXPECT_GT(counts.taken, 24);
  EXPECT_LT(counts.target_calls, 24);
  EXPECT_EQ(
      counts.target_calls + counts.taken, running->info().generation_tokens);

  // Together, one without guesses, one at a temperature.
  auto warm = drafted;
  warm.sampling.temperature = 0.8;
  warm.seed = 3;
  auto warm_plain = warm;
  warm_plain.draft.kind = DraftKind::none;
  auto third = tokens(*model_->generate(repeat, warm_plain));
  auto a = model_->generate(repeat, drafted);
  auto b = model_->generate(other, plain);
  auto c = model_->generate(repeat, warm);
  EXPECT_EQ(tokens(*a), first);
  EXPECT_EQ(tokens(*b), second);
  EXPECT_EQ(tokens(*c), third);
}

TEST_F(SmolLM2, ADraftModelGuessesToo) {
  LoadOptions options;
  options.draft_model = "smollm2"; // itself: all it guesses is taken
  auto model = load("smollm2", options);
  EXPECT_EQ(model->draft_obstacle(), "");
  auto prompt = model->encode("The three largest cities of Europe are");
  auto p = greedy(24);
  p.draft.acceptance = DraftAcceptance::equality;
  p.draft.kind = DraftKind::none;
  auto plain = tokens(*model->generate(prompt, p));
  p.draft.kind = DraftKind::model;
  auto running = model->generate(prompt, p);
  EXPECT_EQ(tokens(*running), plain);
  EXPECT_EQ(running->info().draft.guessed, running->info().draft.taken);

  options.draft_policy.limit_bytes = 1 << 20;
  auto without = load("smollm2", options);
  EXPECT_NE(without->draft_obstacle(), "");
  EXPECT_EQ(tokens(*without->generate(prompt, p)), plain);
  options.draft_policy.action = DraftPolicy::Action::fail;
  EXPECT_THROW(load("smollm2", options), Error);
  EXPECT_THROW(model_->generate(prompt, p), Error); // it has none
}

TEST_F(SmolLM2, MinTokens) {
  auto ids = model_->apply_chat_template(
      {.messages = R"([{"role": "user", "content": "Say hi."}])",
       .add_generation_prompt = true});
  auto p = greedy(40);
  auto usual = tokens(*model_->generate(ids, p));
  ASSERT_LT(usual.size(), 38u);
  p.sampling.min_tokens = static_cast<int>(usual.size()) + 2;
  EXPECT_GE(tokens(*model_->generate(ids, p)).size(), usual.size() + 2);
}

TEST_F(SmolLM2, ScoreDoesNotDependOnWindowsOfTheEngine) {
  auto ids = model_->encode(
      "The quick brown fox jumps over the lazy dog. It was a bright cold day.");
  auto score = model_->score(ids);
  EXPECT_EQ(score.tokens, static_cast<int>(ids.size()) - 1);
  ASSERT_EQ(score.each.size(), ids.size() - 1);
  for (const auto& token : score.each)
    EXPECT_LE(token.logprob, token.best_logprob);
  EXPECT_GT(score.mean_nll, 0.5);
  EXPECT_LT(score.mean_nll, 5);
  EXPECT_THROW(model_->score(std::vector<int>{1}), Error);
}

} // namespace
} // namespace mlxlm

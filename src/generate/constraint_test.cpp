// Answers that wait behind reasoning: they come, whatever the model would do.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "generate/constraint_maker.h"
#include "text/testing.h"
#include "text/tools/grammar.h"

namespace mlxlm {
namespace {

constexpr int end_of_answer = 261; // "<|end|>" of the small vocabulary

TokenizerPtr tokenizer_with(const std::vector<std::string>& marks) {
  text::SmallVocabulary small;
  for (const auto& mark : marks) {
    small.gguf.tokens.emplace_back(mark);
    small.gguf.token_type.push_back(3);
  }
  return tokenizer_from_gguf(small.gguf, "small");
}

class Waiting {
 public:
  Waiting(
      const std::vector<std::string>& marks,
      std::string prompt,
      std::vector<std::string> stops = {"<|end|>"})
      : tokenizer(tokenizer_with(marks)), prompt_(std::move(prompt)) {
    std::set<int> ids;
    for (const auto& stop : stops)
      ids.insert(tokenizer->id_of(stop));
    stops_ = std::make_shared<const std::set<int>>(std::move(ids));
  }

  // What a model that wants to say `wanted`, and then to stop, says under the
  // constraint: the first token that is allowed where its own is not.
  std::string answer(
      const GenerateParameters& parameters,
      std::string_view wanted,
      int most = 200) {
    ConstraintMaker maker(tokenizer, 320, stops_);
    auto made = maker.make(
        parameters, tokenizer->encode(prompt_, {.add_special = false}), most);
    EXPECT_NE(made, nullptr);
    Constraint constraint(*made);
    auto script = tokenizer->encode(wanted, {.add_special = false});
    std::vector<int> said;
    while (static_cast<int>(said.size()) < most) {
      auto at = said.size();
      auto forced = constraint.forced();
      int token = pick(
          constraint.mask(), at < script.size() ? script[at] : end_of_answer);
      EXPECT_TRUE(forced.empty() || token == forced[0]);
      if (stops_->count(token)) return tokenizer->decode(said);
      constraint.accept(token);
      if (at % 3 == 0) constraint = Constraint(constraint); // as a draft's
      said.push_back(token);
    }
    return tokenizer->decode(said) + " and no end";
  }

  TokenizerPtr tokenizer;

 private:
  static int pick(std::span<const std::uint32_t> mask, int wanted) {
    auto allowed = [&](int id) {
      auto word = static_cast<std::size_t>(id) / 32;
      return mask.empty() ||
          (word < mask.size() && (mask[word] >> (id % 32) & 1));
    };
    if (allowed(wanted)) return wanted;
    for (int id = 'a'; id < 320; ++id)
      if (allowed(id)) return id;
    for (int id = 0; id < 'a'; ++id)
      if (allowed(id)) return id;
    ADD_FAILURE() << "nothing is allowed";
    return end_of_answer;
  }

  std::string prompt_;
  std::shared_ptr<const std::set<int>> stops_;
};

GenerateParameters choice(std::optional<int> budget = {}) {
  GenerateParameters out;
  out.response_format = {ResponseFormat::Type::choice, R"(["yes"])"};
  out.reasoning_budget = budget;
  return out;
}

// Of the only tool there is, which takes nothing.
GenerateParameters forced_call(
    std::string_view format,
    const Tokenizer& tokenizer) {
  auto tools = Json::parse(R"([{"type": "function", "function": {
      "name": "f", "parameters": {"type": "object",
      "additionalProperties": false, "properties": {}}}}])");
  GenerateParameters out;
  out.response_format = {
      ResponseFormat::Type::grammar,
      tool_call_grammar(*find_tool_format(format), tools, tokenizer).text};
  return out;
}

const std::vector<std::string> think = {"</think>"};

TEST(WaitingAnswers, AreGivenWhereTheModelWouldStop) {
  Waiting model(think, "<think>");
  EXPECT_EQ(model.answer(choice(), "Hm.</think>no"), "Hm.</think>yes");
  // It stops at once, and then has nothing else to say.
  auto text = model.answer(choice(), "Hm", 40);
  EXPECT_EQ(text.substr(0, 3), "Hma");
  EXPECT_EQ(text.substr(text.find('\n')), "\n</think>yes");
}

TEST(WaitingAnswers, AreKeptTokens) {
  Waiting model(think, "<think>");
  std::string thought(500, 'x');
  for (int most : {8, 20, 100, 400}) {
    auto text = model.answer(choice(), thought, most);
    auto end = text.find('\n');
    ASSERT_NE(end, text.npos) << most;
    EXPECT_EQ(text.substr(end), "\n</think>yes") << most;
    EXPECT_EQ(end >= 40, most >= 100) << most;
  }
}

TEST(WaitingAnswers, TheBudgetIsTheSmaller) {
  Waiting model(think, "<think>");
  std::string thought(500, 'x');
  EXPECT_EQ(model.answer(choice(3), thought), "xxx\n</think>yes");
  EXPECT_EQ(model.answer(choice(0), thought), "\n</think>yes");
  EXPECT_GT(model.answer(choice(1000), thought, 100).size(), 60U);
}

TEST(WaitingAnswers, OpenAndCloseByThemselves) {
  Waiting model(think, "Hello");
  EXPECT_EQ(
      model.answer(choice(), "<think>Hm.</think>no"), "<think>Hm.</think>yes");
  EXPECT_EQ(model.answer(choice(), "no"), "yes");
}

TEST(WaitingAnswers, WithoutAGrammarTheModelMayStop) {
  Waiting model(think, "<think>");
  GenerateParameters free;
  free.reasoning_budget = 100;
  EXPECT_EQ(model.answer(free, "Hm"), "Hm");
}

// A call may begin inside the reasoning: readers take it for one, too.
TEST(WaitingAnswers, CallsEndTheReasoning) {
  std::vector<std::string> marks = {
      "</think>", "<|tool_call_start|>", "<|tool_call_end|>"};
  Waiting model(marks, "<think>");
  auto call = forced_call("pythonic", *model.tokenizer);
  EXPECT_EQ(
      model.answer(call, "Hm.<|tool_call_start|>hello"),
      "Hm.<|tool_call_start|>[f()]<|tool_call_end|>");
}

// ---- Harmony
const std::vector<std::string> channels =
    {"<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|return|>"};

Waiting harmony() {
  // "<|end|>" ends a message here, not the answer.
  return {channels, "<|start|>assistant", {"<|return|>", "<|call|>"}};
}

TEST(WaitingAnswers, HarmonysFinalChannel) {
  auto model = harmony();
  const std::string head = "<|channel|>analysis<|message|>Hm";
  for (const char* mark :
       {"<|channel|>final<|message|>",
        "<|channel|>final <|constrain|>json<|message|>"}) {
    auto wanted = head + "<|end|><|start|>assistant" + mark;
    EXPECT_EQ(model.answer(choice(), wanted + "no"), wanted + "yes");
  }
  // It would rather go on for ever.
  auto text = model.answer(choice(), head + std::string(500, 'x'), 150);
  EXPECT_EQ(
      text.substr(text.find("<|end|>")),
      "<|end|><|start|>assistant<|channel|>final<|message|>yes");
}

TEST(WaitingAnswers, HarmonysThoughtBeforeAForcedCallHasABudget) {
  auto model = harmony();
  auto call = forced_call("harmony", *model.tokenizer);
  const std::string head = "<|channel|>analysis<|message|>";
  const std::string rest =
      "<|end|><|start|>assistant<|channel|>commentary to=functions.f "
      "<|constrain|>json<|message|>{}";
  auto wanted = head + std::string(500, 'x');
  call.reasoning_budget = 5;
  EXPECT_EQ(model.answer(call, wanted, 400), head + "xxxxx" + rest);
  // Inside a character it does not end.
  EXPECT_EQ(
      model.answer(call, head + "xxxx\xe2\x82\xac and more", 400),
      head + "xxxx\xe2\x82\xac" + rest);
  call.reasoning_budget = {};
  auto text = model.answer(call, wanted, 400);
  EXPECT_EQ(text.substr(text.find("<|end|>")), rest);
  EXPECT_GT(text.find("<|end|>"), 100U);
  // Without a thought.
  EXPECT_EQ(
      model.answer(call, "<|channel|>commentary", 200),
      rest.substr(rest.find("<|channel|>")));
}

} // namespace
} // namespace mlxlm

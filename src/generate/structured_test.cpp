// Answers under grammars from the default model; skipped where it is not
// installed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "core/json.h"
#include "generate/codec.h"
#include "generate/constraint_maker.h"
#include "generate/default_model_testing.h"
#include "mlxlm/error.h"
#include "mlxlm/model.h"
#include "text/tools/grammar.h"

namespace mlxlm {
namespace {

using Type = ResponseFormat::Type;

constexpr const char* person = R"({
  "type": "object", "additionalProperties": false,
  "properties": {
    "name": {"type": "string", "maxLength": 12},
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "maxItems": 2,
             "items": {"enum": ["red", "green", "blue"]}},
    "pet": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}},
  "required": ["name", "age", "tags", "pet"]})";

class Structured : public WithDefaultModel {
 protected:
  static std::vector<int> prompt(const std::string& text) {
    return model_->apply_chat_template(
        {.messages =
             Json::array({{{"role", "user"}, {"content", text}}}).dump(),
         .add_generation_prompt = true});
  }

  static GenerateParameters hot(std::uint64_t seed, ResponseFormat format) {
    GenerateParameters p{.sampling = {.temperature = 1}};
    p.max_tokens = 160;
    p.seed = seed;
    p.response_format = std::move(format);
    return p;
  }
};

void expect_person(const std::string& text) {
  auto json = Json::parse(text, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << text;
  ASSERT_EQ(json.size(), 4U) << text;
  ASSERT_TRUE(
      json.at("name").is_string() && json.at("age").is_number_integer());
  EXPECT_GE(json.at("age").get<int>(), 0) << text;
  EXPECT_LE(json.at("age").get<int>(), 120) << text;
  EXPECT_LE(json.at("tags").size(), 2U) << text;
  for (const auto& tag : json.at("tags"))
    EXPECT_TRUE(tag == "red" || tag == "green" || tag == "blue") << text;
  EXPECT_TRUE(json.at("pet").is_null() || json.at("pet").is_boolean()) << text;
}

TEST_F(Structured, FiftySeedsGiveOnlyValidJson) {
  auto ids = prompt("Describe a person as JSON.");
  std::vector<GenerationPtr> running;
  for (std::uint64_t seed = 0; seed < 50; ++seed)
    running.push_back(
        model_->generate(ids, hot(seed, {Type::json_schema, person})));
  for (auto& generation : running) {
    auto text = generation->text();
    EXPECT_EQ(generation->info().finish_reason, FinishReason::stop) << text;
    expect_person(text);
  }
}

TEST_F(Structured, MaskedAndFreeTogetherAsAlone) {
  std::vector<ResponseFormat> formats = {
      {},
      {Type::json_schema, person},
      {},
      {Type::regex, "[0-9]{3}-[a-z]{2,9}"},
      {Type::choice, R"(["perhaps", "certainly", "never"])"},
      {}};
  auto ids = prompt("Say something.");
  std::vector<std::string> alone;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    auto p = hot(i, formats[i]);
    p.max_tokens = 40;
    alone.push_back(model_->generate(ids, p)->text());
  }
  std::vector<GenerationPtr> running;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    auto p = hot(i, formats[i]);
    p.max_tokens = 40;
    running.push_back(model_->generate(ids, p));
  }
  for (std::size_t i = 0; i < formats.size(); ++i)
    EXPECT_EQ(running[i]->text(), alone[i]) << i;
  EXPECT_TRUE(std::regex_match(alone[3], std::regex("[0-9]{3}-[a-z]{2,9}")));
  EXPECT_THAT(
      (std::vector<std::string>{"perhaps", "certainly", "never"}),
      ::testing::Contains(alone[4]));
}

// What a schema leaves no choice of takes no passes of its own, and nothing
// else changes, warm or not, alone or beside others.
TEST_F(Structured, ForcedTokensSavePassesOnly) {
  constexpr const char* form = R"({
    "type": "object", "additionalProperties": false,
    "properties": {
      "temperature_in_celsius": {"type": "integer", "maximum": 40},
      "weather_description": {"enum": ["sunny", "rainy"]}},
    "required": ["temperature_in_celsius", "weather_description"]})";
  auto ids = prompt("What is the weather?");
  for (double temperature : {0.0, 1.0}) {
    auto p = hot(5, {Type::json_schema, form});
    p.sampling.temperature = temperature;
    p.draft.num_tokens = 0;
    auto plain = model_->generate(ids, p);
    auto text = plain->text();
    EXPECT_EQ(plain->info().draft.taken, 0);
    EXPECT_EQ(
        plain->info().draft.target_calls, plain->info().generation_tokens);
    p.draft.num_tokens = std::nullopt;
    auto beside = model_->generate(ids, hot(9, {}));
    auto ahead = model_->generate(ids, p);
    EXPECT_EQ(ahead->text(), text);
    const auto& info = ahead->info();
    const auto& counts = info.draft;
    EXPECT_EQ(info.generation_tokens, plain->info().generation_tokens);
    EXPECT_GE(counts.taken, 4) << text;
    EXPECT_EQ(counts.taken, counts.guessed);
    EXPECT_EQ(counts.target_calls + counts.taken, info.generation_tokens);
    // With guesses of other kinds where there is a choice.
    p.draft.kind = DraftKind::prompt_lookup;
    EXPECT_EQ(model_->generate(ids, p)->text(), text);
  }
}

TEST_F(Structured, GreedyJsonObject) {
  auto p = hot(1, {Type::json_object});
  p.sampling.temperature = 0;
  p.max_tokens = 60;
  auto generation = model_->generate(prompt("A small JSON object, please."), p);
  auto text = generation->text();
  EXPECT_EQ(text.front(), '{') << text;
  if (generation->info().finish_reason == FinishReason::stop) {
    EXPECT_TRUE(Json::parse(text, nullptr, false).is_object()) << text;
  }
}

TEST_F(Structured, RefusalsNameThePlace) {
  auto error = [&](ResponseFormat format) -> std::string {
    try {
      model_->generate(prompt("x"), hot(1, std::move(format)));
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::request);
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(
      error({Type::json_schema, R"({"type": "nothing"})"}),
      ::testing::HasSubstr("nothing"));
  EXPECT_NE(error({Type::regex, "("}), "");
  EXPECT_NE(error({Type::grammar, "start: ("}), "");
}

TEST_F(Structured, CallsAreForced) {
  constexpr const char* tools = R"([{"type": "function", "function": {
    "name": "get_weather", "parameters": {"type": "object",
    "additionalProperties": false, "required": ["city", "days", "hot"],
    "properties": {"city": {"type": "string", "maxLength": 20},
    "days": {"type": "integer", "minimum": 1, "maximum": 9},
    "hot": {"type": "boolean"}}}}}])";
  auto codec =
      std::dynamic_pointer_cast<const Codec>(TextCodec::load(model_->path()));
  ASSERT_NE(codec, nullptr);
  for (const char* name :
       {"hermes", "qwen3_coder", "gemma4", "pythonic", "minimax_m2", "glm47"})
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const auto* format = find_tool_format(name);
      auto source = tool_call_grammar(
          *format, Json::parse(tools), *codec->tokenizer(), "get_weather");
      auto text = model_
                      ->generate(
                          prompt("How is the weather in Rome?"),
                          hot(seed, {Type::grammar, source.text}))
                      ->text();
      auto output =
          parse_output({nullptr, format}, text, {.tools = Json::parse(tools)});
      ASSERT_EQ(output.calls.size(), 1U) << text;
      EXPECT_EQ(output.calls[0].name, "get_weather");
      auto call = Json::parse(output.calls[0].arguments);
      EXPECT_TRUE(call.value("city", Json()).is_string()) << text;
      EXPECT_TRUE(call.value("days", Json()).is_number_integer()) << text;
      EXPECT_TRUE(call.value("hot", Json()).is_boolean()) << text;
    }
}

// A model that marks its reasoning with texts of several tokens each.
TEST_F(Structured, BudgetClosesTheReasoning) {
  auto codec =
      std::dynamic_pointer_cast<const Codec>(TextCodec::load(model_->path()));
  ASSERT_NE(codec, nullptr);
  auto tokenizer = codec->tokenizer();
  ConstraintOptions options{
      .open = "<think>",
      .close = "</think>",
      .inside = true,
      .budget = 3,
      .closing = tokenizer->encode("\n</think>", {.add_special = false}),
      .tokenizer = tokenizer};
  auto vocabulary = std::make_shared<GrammarVocabulary>(
      *tokenizer, tokenizer->vocab_size(), std::set<int>{2});
  options.grammar.emplace(
      vocabulary, GrammarSource{GrammarKind::choice, R"(["yes"])"});
  Constraint constraint(options);
  std::string text;
  int tokens = 0;
  for (int free = tokenizer->id_of("a"); tokens < 40; ++tokens) {
    auto mask = constraint.mask();
    int next = free;
    for (int id = 0; !mask.empty() && id < int(mask.size() * 32); ++id)
      if (mask[id / 32] >> (id % 32) & 1) next = id;
    if (next == 2) break;
    constraint.accept(next);
    text += tokenizer->decode(std::vector<int>{next});
  }
  EXPECT_EQ(text, "aaa\n</think>yes");
}

} // namespace
} // namespace mlxlm

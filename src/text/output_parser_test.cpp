// Streams of answers: calls, reasoning and text, in whatever pieces they come.
#include "text/output_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/strings.h"
#include "text/output_testing.h"

namespace mlxlm {
namespace {

using testing::expect_output;
using testing::thinking;
using testing::weather_tools;
using testing::with_tools;

TEST(OutputParser, HandsOutJsonArgumentsWhileTheyAreWritten) {
  OutputParser parser(with_tools("json_tools"));
  auto items =
      parser.feed("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\"");
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(std::get<ToolCallDelta>(items[0]).name, "f");
  EXPECT_EQ(std::get<ToolCallDelta>(items[1]).arguments, "{\"a\"");
  items = parser.feed(": [1, \"}\"]}}</tool_call>");
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(std::get<ToolCallDelta>(items[0]).arguments, ": [1, \"}\"]}");
  EXPECT_TRUE(std::get<ToolCallDelta>(items[1]).last);
  EXPECT_FALSE(std::get<ToolCallDelta>(items[1]).broken);
}

TEST(OutputParser, SeveralCallsInOnePayload) {
  expect_output(
      with_tools("mistral"),
      "[TOOL_CALLS]a[ARGS]{\"x\": 1}[TOOL_CALLS]b[ARGS]{}",
      R"( @a{"x":1} @b{})");
  expect_output(
      with_tools("granite"),
      "<|tool_call|>[{\"name\": \"a\", \"arguments\": {\"x\": 1}}, "
      "{\"name\": \"b\", \"arguments\": {}}]",
      R"( @a{"x":1} @b{})");
  expect_output(
      with_tools("pythonic"),
      "<|tool_call_start|>[a(x=1), b.c()]<|tool_call_end|>",
      R"( @a{"x":1} @b.c{})");
}

TEST(OutputParser, ElementsInElements) {
  auto tag = [](const char* name, const std::string& inner) {
    return fmt::format("]<]minimax[>[<{0}>{1}]<]minimax[>[</{0}>", name, inner);
  };
  auto body = tag("o", tag("a", "1") + tag("a", "x")) +
      tag("l", tag("item", "1") + tag("item", "null"));
  auto text = fmt::format(
      "]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"f\">{}"
      "]<]minimax[>[</invoke>]<]minimax[>[</tool_call>",
      body);
  expect_output(
      with_tools("minimax_m3"), text, R"( @f{"o":{"a":[1,"x"]},"l":[1,null]})");
}

TEST(OutputParser, CallsOfOneAnswerAreNumbered) {
  OutputParser parser(with_tools("json_tools"));
  OutputItems items = parser.feed(
      "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>\n"
      "<tool_call>{\"arguments\": {}, \"name\": \"b\"}</tool_call>");
  auto end = parser.finish();
  auto* second = std::get_if<ToolCallDelta>(&items.back());
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->index, 1);
  EXPECT_EQ(second->name, "b");
  EXPECT_EQ(std::get<OutputEnd>(end.back()).calls, 2);
}

TEST(OutputParser, MalformedCallsAreTextAgain) {
  for (
      const char* text :
      {"a <tool_call>no call</tool_call> b",
       "a <tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}}</tool_call>",
       "a <tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1,}}</tool_call>",
       "a <tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"cut"})
    expect_output(with_tools("json_tools"), text, text);
  expect_output(
      with_tools("json_tools"),
      "a <tool_call>no call</tool_call> b",
      "a  b",
      {.give_back_malformed = false});
}

TEST(OutputParser, CallsBeforeACutOneStay) {
  expect_output(
      with_tools("mistral"),
      "[TOOL_CALLS]a[ARGS]{\"x\": 1}b[ARGS]{\"y\": \"cut",
      R"(b[ARGS]{"y": "cut @a{"x":1})");
}

TEST(OutputParser, UnlistedNamesAreTextWhenAsked) {
  constexpr const char* text =
      "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
  OutputOptions options{.tools = weather_tools(), .listed_only = true};
  expect_output(with_tools("json_tools"), text, text, options);
  options.listed_only = false;
  expect_output(with_tools("json_tools"), text, " @f{}", options);
}

TEST(OutputParser, PythonInsteadOfJsonComesWhole) {
  expect_output(
      with_tools("kimi_k2"),
      "<|tool_calls_section_begin|><|tool_call_begin|>f:0"
      "<|tool_call_argument_begin|>{'a': None}<|tool_call_end|>"
      "<|tool_calls_section_end|>",
      R"( @f{"a":null})");
}

TEST(OutputParser, LlamaCallsWithoutMarks) {
  auto format = with_tools("llama3");
  expect_output(
      format,
      " {\"name\": \"f\", \"parameters\": {\"x\": 1}}; {\"name\": \"g\", "
      "\"parameters\": {}}\n",
      R"( @f{"x":1} @g{})");
  expect_output(format, "{\"answer\": 42}", "{\"answer\": 42}");
  expect_output(format, "{\"name\": \"x\"}", "{\"name\": \"x\"}");
  expect_output(format, "  [1, 2]\n", "  [1, 2]\n");
  expect_output(format, "{\"name\": \"f\", ", "{\"name\": \"f\", ");
  expect_output(
      format,
      "See {\"name\": \"f\", \"parameters\": {}}",
      "See {\"name\": \"f\", \"parameters\": {}}");
}

TEST(OutputParser, BareHermesOnlyForListedTools) {
  constexpr const char* text =
      R"({"name": "weather", "arguments": {"city": "Rome"}})";
  expect_output(with_tools("json_tools"), text, text);
  expect_output(
      with_tools("json_tools"),
      text,
      R"( @weather{"city":"Rome"})",
      {.tools = weather_tools()});
}

TEST(OutputParser, ReasoningOfEveryFormat) {
  for (const auto& row : reasoning_formats()) {
    if (row.channels) continue;
    auto text = fmt::format("{}\nWhy?{}\n\nBecause.", row.open, row.close);
    expect_output(thinking(row.name), text, "(Why?)Because.");
    expect_output(
        thinking(row.name),
        fmt::format("Why?{}Because.", row.close),
        "(Why?)Because.",
        {.prompt = fmt::format("<user>hello<assistant>{}\n", row.open)});
    expect_output(
        thinking(row.name),
        "No thought.",
        "No thought.",
        {.prompt = fmt::format("{}a{}", row.open, row.close)});
  }
}

TEST(OutputParser, ReasoningEndsWithACallAndWithTheText) {
  auto format = thinking("think", "json_tools");
  expect_output(
      format,
      "<think>Hm<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>ok",
      "(Hm)ok @f{}");
  expect_output(format, "<think>cut </thi", "(cut </thi)");
  expect_output(
      format,
      "<think>x</think>y",
      "<think>x</think>y",
      {.parse_reasoning = false});
}

TEST(OutputParser, HarmonyChannels) {
  auto format = thinking("harmony", "harmony");
  expect_output(
      format,
      "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>"
      "commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>",
      R"((Hm.) @f{"a":1})");
  expect_output(
      format,
      "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>"
      "{\"a\": 1}",
      R"( @f{"a":1})");
  expect_output(
      format,
      "<|channel|>commentary<|message|>Wait.<|end|><|start|>assistant"
      "<|channel|>final<|message|>Done.<|return|>",
      "Wait.Done.");
  expect_output(
      format,
      "<|channel|>analysis<|message|>a",
      "(a)",
      {.prompt = "<|channel|>analysis<|message|>x<|end|><|start|>assistant"});
}

TEST(OutputParser, MistralIdsHaveNineCharacters) {
  auto output = parse_output(with_tools("mistral"), "[TOOL_CALLS]f[ARGS]{}");
  ASSERT_EQ(output.calls.size(), 1U);
  EXPECT_EQ(output.calls[0].id.size(), 9U);
  output = parse_output(
      with_tools("json_tools"),
      "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>");
  EXPECT_TRUE(starts_with(output.calls.at(0).id, "call_"));
}

} // namespace
} // namespace mlxlm

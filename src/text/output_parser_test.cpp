#include "text/output_parser.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

Json weather_tools() {
  return Json::parse(R"([{"type": "function", "function": {
    "name": "weather", "parameters": {"type": "object", "properties": {
      "city": {"type": "string"}, "days": {"type": "integer"}}}}}])");
}

struct Pieces {
  std::string name;
  std::vector<std::string_view> texts;
};

// Whole, character by character, and cut at random places.
std::vector<Pieces> cuts(std::string_view text) {
  std::vector<Pieces> all = {{"whole", {text}}, {"bytes", {}}};
  for (std::size_t i = 0; i < text.size(); ++i)
    all[1].texts.push_back(text.substr(i, 1));
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    Pieces pieces{"random " + std::to_string(round), {}};
    for (std::size_t at = 0; at < text.size();) {
      std::size_t size = 1 + random() % 9;
      pieces.texts.push_back(text.substr(at, size));
      at += size;
    }
    all.push_back(pieces);
  }
  return all;
}

// Content, reasoning and calls as one text that a test can state.
std::string shown(const Output& output) {
  std::string out = output.content;
  if (!output.reasoning.empty()) out = "(" + output.reasoning + ")" + out;
  for (const auto& call : output.calls)
    out += " @" + call.name + Json::parse(call.arguments).dump();
  return out;
}

// The order of items is a promise: see ToolCallDelta.
void check_order(const OutputItems& items) {
  int open = -1, next = 0;
  for (const auto& item : items) {
    auto* call = std::get_if<ToolCallDelta>(&item);
    if (!call) {
      EXPECT_EQ(open, -1);
      continue;
    }
    if (!call->name.empty()) {
      EXPECT_EQ(open, -1);
      EXPECT_EQ(call->index, next++);
      EXPECT_FALSE(call->id.empty());
      open = call->index;
    }
    EXPECT_EQ(call->index, open);
    if (call->last) open = -1;
  }
  EXPECT_EQ(open, -1);
  ASSERT_FALSE(items.empty());
  EXPECT_TRUE(std::holds_alternative<OutputEnd>(items.back()));
}

void expect_output(
    const OutputFormat& format,
    std::string_view text,
    const std::string& wanted,
    OutputOptions options = {}) {
  for (const auto& cut : cuts(text)) {
    OutputParser parser(format, options);
    OutputItems items;
    auto take = [&](OutputItems more) {
      items.insert(items.end(), more.begin(), more.end());
    };
    for (auto piece : cut.texts)
      take(parser.feed(piece));
    take(parser.finish());
    Output output;
    for (const auto& item : items)
      add(output, item);
    EXPECT_EQ(shown(output), wanted) << cut.name << " of " << text;
    check_order(items);
  }
}

OutputFormat with_tools(std::string_view name) {
  OutputFormat format;
  format.tools = find_tool_format(name);
  EXPECT_NE(format.tools, nullptr) << name;
  return format;
}

OutputFormat thinking(std::string_view name, std::string_view tools = "") {
  OutputFormat format;
  format.reasoning = find_reasoning_format(name);
  EXPECT_NE(format.reasoning, nullptr) << name;
  if (!tools.empty()) format.tools = find_tool_format(tools);
  return format;
}

struct Sample {
  const char *format, *text;
};

class EveryFormat : public ::testing::TestWithParam<Sample> {};

TEST_P(EveryFormat, FindsOneCallBetweenTexts) {
  auto [name, text] = GetParam();
  expect_output(
      with_tools(name),
      text,
      R"(Look:  @weather{"city":"Rome","days":3})",
      {.tools = weather_tools()});
}

INSTANTIATE_TEST_SUITE_P(
    OutputParser,
    EveryFormat,
    ::testing::Values(
        Sample{
            "json_tools",
            "Look: <tool_call>\n{\"name\": \"weather\", \"arguments\": "
            "{\"city\": \"Rome\", \"days\": 3}}\n</tool_call>"},
        Sample{
            "qwen3_coder",
            "Look: <tool_call>\n<function=weather>\n<parameter=city>\nRome\n"
            "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n"
            "</tool_call>"},
        Sample{
            "qwen3_5",
            "Look: <tool_call>{\"name\": \"weather\", \"arguments\": "
            "{\"city\": \"Rome\", \"days\": 3}}</tool_call>"},
        Sample{
            "seed_oss",
            "Look: <seed:tool_call><function=weather><parameter=city>Rome"
            "</parameter><parameter=days>3</parameter></function>"
            "</seed:tool_call>"},
        Sample{
            "mistral",
            "Look: [TOOL_CALLS]weather[ARGS]{\"city\": \"Rome\", \"days\": 3}"},
        Sample{
            "mistral",
            "Look: [TOOL_CALLS][{\"name\": \"weather\", \"arguments\": "
            "{\"city\": \"Rome\", \"days\": 3}}]"},
        Sample{
            "mistral",
            "Look: [TOOL_CALLS]weather[CALL_ID]abc123def[ARGS]"
            "{\"city\": \"Rome\", \"days\": 3}"},
        Sample{
            "llama3",
            "Look: <|python_tag|>{\"name\": \"weather\", \"parameters\": "
            "{\"city\": \"Rome\", \"days\": 3}}"},
        Sample{
            "llama3",
            "Look: <|python_tag|>weather.call(city=\"Rome\", days=3)"},
        Sample{
            "pythonic",
            "Look: <|tool_call_start|>[weather(city='Rome', days=3)]"
            "<|tool_call_end|>"},
        Sample{
            "function_gemma",
            "Look: <start_function_call>call:weather{city:<escape>Rome<escape>,"
            "days:3}<end_function_call>"},
        Sample{
            "gemma4",
            "Look: <|tool_call>call:weather{city:<|\"|>Rome<|\"|>,days:3}"
            "<tool_call|>"},
        Sample{
            "glm47",
            "Look: <tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome"
            "</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
            "</tool_call>"},
        Sample{
            "longcat",
            "Look: <longcat_tool_call>weather<longcat_arg_key>city"
            "</longcat_arg_key><longcat_arg_value>Rome</longcat_arg_value>"
            "<longcat_arg_key>days</longcat_arg_key><longcat_arg_value>3"
            "</longcat_arg_value></longcat_tool_call>"},
        Sample{
            "kimi_k2",
            "Look: <|tool_calls_section_begin|><|tool_call_begin|>"
            "functions.weather:0<|tool_call_argument_begin|>{\"city\": "
            "\"Rome\", \"days\": 3}<|tool_call_end|>"
            "<|tool_calls_section_end|>"},
        Sample{
            "kimi_k3",
            "Look: <|open|>tools<|sep|><|open|>call tool=\"weather\" "
            "index=\"1\"<|sep|><|open|>argument key=\"city\" type=\"string\""
            "<|sep|>Rome<|close|>argument<|sep|><|open|>argument key=\"days\" "
            "type=\"number\"<|sep|>3<|close|>argument<|sep|><|close|>call"
            "<|sep|><|close|>tools<|sep|>"},
        Sample{
            "minimax_m2",
            "Look: <minimax:tool_call>\n<invoke name=\"weather\">\n<parameter "
            "name=\"city\">Rome</parameter>\n<parameter name=\"days\">3"
            "</parameter>\n</invoke>\n</minimax:tool_call>"},
        Sample{
            "minimax_m3",
            "Look: ]<]minimax[>[<tool_call>]<]minimax[>[<invoke "
            "name=\"weather\">]<]minimax[>[<city>Rome]<]minimax[>[</city>"
            "]<]minimax[>[<days>3]<]minimax[>[</days>]<]minimax[>[</invoke>"
            "]<]minimax[>[</tool_call>"},
        Sample{
            "minicpm5",
            "Look: <function name=\"weather\"><param name=\"city\"><![CDATA["
            "Rome]]></param><param name=\"days\">3</param></function>"},
        Sample{
            "muse_spark",
            "Look: <atem:function_calls><atem:invoke name=\"weather\">"
            "<atem:parameter name=\"city\">Rome</atem:parameter>"
            "<atem:parameter name=\"days\">3</atem:parameter></atem:invoke>"
            "</atem:function_calls>"},
        Sample{
            "deepseek_v3",
            "Look: <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"
            "<｜tool▁sep｜>weather\n```json\n{\"city\": \"Rome\", \"days\": 3}"
            "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
        Sample{
            "deepseek_v31",
            "Look: <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather"
            "<｜tool▁sep｜>{\"city\": \"Rome\", \"days\": 3}"
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
        Sample{
            "deepseek_v32",
            "Look: <｜DSML｜function_calls>\n<｜DSML｜invoke name=\"weather\">\n"
            "<｜DSML｜parameter name=\"city\" string=\"true\">Rome"
            "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" "
            "string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
            "</｜DSML｜function_calls>"},
        Sample{
            "cohere",
            "Look: <|START_ACTION|>[{\"tool_call_id\": \"0\", \"tool_name\": "
            "\"weather\", \"parameters\": {\"city\": \"Rome\", \"days\": 3}}]"
            "<|END_ACTION|>"},
        Sample{
            "granite",
            "Look: <|tool_call|>[{\"name\": \"weather\", \"arguments\": "
            "{\"city\": \"Rome\", \"days\": 3}}]"},
        Sample{
            "nemotron",
            "Look: <TOOLCALL>[{\"name\": \"weather\", \"arguments\": "
            "{\"city\": \"Rome\", \"days\": 3}}]</TOOLCALL>"},
        Sample{
            "internlm",
            "Look: <|action_start|><|plugin|>{\"name\": \"weather\", "
            "\"parameters\": {\"city\": \"Rome\", \"days\": 3}}"
            "<|action_end|>"}));

TEST(OutputParser, EveryFormatIsFoundByItsName) {
  std::set<std::string_view> names;
  for (const auto* format : tool_formats()) {
    EXPECT_EQ(find_tool_format(format->name), format) << format->name;
    EXPECT_TRUE(names.insert(format->name).second) << format->name;
  }
  EXPECT_EQ(find_tool_format("hermes")->name, "json_tools");
  EXPECT_EQ(find_tool_format("laguna")->name, "glm47");
  EXPECT_EQ(find_tool_format(""), nullptr);
  EXPECT_EQ(find_tool_format("nothing"), nullptr);
}

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

TEST(OutputParser, FormatsFromClues) {
  auto format = output_format({.chat_template = "{{ '<think>' }} </think>"});
  ASSERT_NE(format.reasoning, nullptr);
  EXPECT_EQ(format.reasoning->name, "think");
  EXPECT_EQ(format.tools, nullptr);
  format = output_format(
      {.chat_template = "<tool_call>\n<function=",
       .model_type = "qwen3_5_moe"});
  EXPECT_EQ(format.tools->name, "qwen3_5");
  format = output_format({.has_token = [](std::string_view token) {
    return token == "<|channel>" || token == "<channel|>";
  }});
  EXPECT_EQ(format.reasoning->name, "gemma4");
  format = output_format({.tool_parser_type = "hermes"});
  EXPECT_EQ(format.tools->name, "json_tools");
  EXPECT_THROW(output_format({.tool_parser_type = "x"}), Error);
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

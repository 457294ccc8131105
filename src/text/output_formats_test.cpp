// Every tool-call format finds its call, and formats are found by name and by
// what a checkpoint tells.
#include <set>

#include "core/check.h"
#include "text/output_testing.h"

namespace mlxlm {
namespace {

using testing::expect_output;
using testing::weather_tools;
using testing::with_tools;

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
    OutputFormats,
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

TEST(OutputFormats, EveryFormatIsFoundByItsName) {
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

TEST(OutputFormats, FormatsFromClues) {
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

} // namespace
} // namespace mlxlm

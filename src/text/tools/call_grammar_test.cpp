// Grammars that force calls: for every format, what it writes is taken and
// read back by its own parser, and nothing else is taken.
#include "text/tools/forced_call.h"

namespace mlxlm {
namespace {

Json trip_tools() {
  return Json::parse(R"([{"type": "function", "function": {"name": "trip",
    "parameters": {"type": "object", "additionalProperties": false,
    "required": ["city", "days", "quiet", "unit"],
    "properties": {
      "city": {"type": "string", "maxLength": 12},
      "days": {"type": "integer", "minimum": 1, "maximum": 9},
      "quiet": {"type": "boolean"},
      "unit": {"$ref": "#/$defs/unit"},
      "most": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 99},
                         {"type": "null"}]},
      "tags": {"type": "array", "items": {"enum": ["a", "b"]},
               "minItems": 1, "maxItems": 2},
      "place": {"type": "object", "additionalProperties": false,
                "required": ["hot"], "properties": {
                  "hot": {"type": "boolean"},
                  "name": {"type": "string", "maxLength": 4}}}},
    "$defs": {"unit": {"enum": ["C", "F", 5]}}}}}])");
}

std::string replaced(
    std::string text,
    std::string_view from,
    std::string_view to) {
  auto at = text.find(from);
  EXPECT_NE(at, text.npos) << from << " in " << text;
  return at == text.npos ? text : text.replace(at, from.size(), to);
}

struct WrittenCall {
  const char *format, *text;
  // Of the text: the boolean, the name, the whole of the last needed argument.
  const char *yes = "true", *unit = nullptr;
  std::vector<std::string> marks = {};
};

class EveryForcedFormat : public ::testing::TestWithParam<WrittenCall> {};

TEST_P(EveryForcedFormat, TakesItsCallsAndNothingElse) {
  const auto& [name, written, yes, unit, marks] = GetParam();
  ForcedCall forced(name, trip_tools(), marks);
  std::string text = written;
  EXPECT_TRUE(forced.takes(text)) << text;
  auto output = forced.read(text);
  ASSERT_EQ(output.calls.size(), 1U) << text;
  EXPECT_EQ(output.content, "");
  EXPECT_EQ(output.calls[0].name, "trip");
  EXPECT_EQ(
      Json::parse(output.calls[0].arguments),
      Json::parse(
          R"({"city": "Rome", "days": 3, "quiet": true, "unit": "C"})"));
  EXPECT_FALSE(forced.takes(replaced(text, "trip", "trap")));
  EXPECT_FALSE(forced.takes(replaced(text, yes, "maybe")));
  EXPECT_FALSE(forced.takes(replaced(text, "3", "30")));
  EXPECT_FALSE(forced.takes(replaced(text, "3", "three")));
  EXPECT_FALSE(forced.takes(replaced(text, "Rome", "Constantinople")));
  EXPECT_FALSE(forced.takes(replaced(text, "C", "K")));
  if (unit) {
    EXPECT_FALSE(forced.takes(replaced(text, unit, "")));
  }
  EXPECT_FALSE(forced.takes(text.substr(0, text.size() - 1)));
  EXPECT_FALSE(forced.takes(text + "x"));
}

void check_trip(const Json& call, const std::string& text) {
  for (const auto& [key, value] : call.items()) {
    if (key == "city") {
      EXPECT_TRUE(value.is_string()) << text;
    } else if (key == "days") {
      EXPECT_TRUE(value.is_number_integer() && value >= 1 && value <= 9)
          << text;
    } else if (key == "quiet") {
      EXPECT_TRUE(value.is_boolean()) << text;
    } else if (key == "unit") {
      EXPECT_TRUE(value == "C" || value == "F" || value == 5) << text;
    } else if (key == "most") {
      EXPECT_TRUE(
          value.is_null() ||
          (value.is_number_integer() && value >= 0 && value <= 99))
          << text;
    } else if (key == "tags") {
      ASSERT_TRUE(value.is_array()) << text;
      EXPECT_TRUE(value.size() == 1 || value.size() == 2) << text;
      for (const auto& tag : value)
        EXPECT_TRUE(tag == "a" || tag == "b") << text;
    } else {
      EXPECT_EQ(key, "place") << text;
      ASSERT_TRUE(value.is_object()) << text;
      EXPECT_TRUE(value.value("hot", Json()).is_boolean()) << text;
    }
  }
  for (const char* key : {"city", "days", "quiet", "unit"})
    EXPECT_TRUE(call.contains(key)) << key << " in " << text;
}

TEST_P(EveryForcedFormat, WhatIsDrawnIsReadBack) {
  ForcedCall forced(GetParam().format, trip_tools(), GetParam().marks);
  for (unsigned seed = 0; seed < 12; ++seed) {
    auto text = forced.draw(seed);
    auto output = forced.read(text);
    ASSERT_EQ(output.calls.size(), 1U) << text;
    EXPECT_EQ(output.calls[0].name, "trip");
    check_trip(Json::parse(output.calls[0].arguments), text);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Calls,
    EveryForcedFormat,
    ::testing::Values(
        WrittenCall{
            "json_tools",
            "<tool_call>\n{\"name\": \"trip\", \"arguments\": {\"city\": "
            "\"Rome\", \"days\": 3, \"quiet\": true, \"unit\": \"C\"}}\n"
            "</tool_call>",
            "true",
            ", \"unit\": \"C\""},
        WrittenCall{
            "qwen3_coder",
            "<tool_call>\n<function=trip>\n<parameter=city>\nRome\n"
            "</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=quiet>"
            "\ntrue\n</parameter>\n<parameter=unit>\nC\n</parameter>\n"
            "</function>\n</tool_call>",
            "true",
            "<parameter=unit>\nC\n</parameter>\n"},
        WrittenCall{
            "seed_oss",
            "<seed:tool_call>\n<function=trip>\n<parameter=city>Rome"
            "</parameter>\n<parameter=days>3</parameter>\n<parameter=quiet>"
            "true</parameter>\n<parameter=unit>C</parameter>\n</function>\n"
            "</seed:tool_call>",
            "true",
            "<parameter=unit>C</parameter>\n"},
        WrittenCall{
            "mistral",
            "[TOOL_CALLS]trip[ARGS]{\"city\": \"Rome\", \"days\": 3, "
            "\"quiet\": true, \"unit\": \"C\"}",
            "true",
            ", \"unit\": \"C\"",
            {"[TOOL_CALLS]", "[ARGS]"}},
        WrittenCall{
            "mistral",
            "[TOOL_CALLS] [{\"name\": \"trip\", \"arguments\": {\"city\": "
            "\"Rome\", \"days\": 3, \"quiet\": true, \"unit\": \"C\"}}]",
            "true",
            ", \"unit\": \"C\"",
            {"[TOOL_CALLS]"}},
        WrittenCall{
            "llama3",
            "{\"name\": \"trip\", \"parameters\": {\"city\": \"Rome\", "
            "\"days\": 3, \"quiet\": true, \"unit\": \"C\"}}"},
        WrittenCall{
            "pythonic",
            "<|tool_call_start|>[trip(city=\"Rome\", days=3, quiet=True, "
            "unit=\"C\")]<|tool_call_end|>",
            "True",
            ", unit=\"C\"",
            {"<|tool_call_start|>", "<|tool_call_end|>"}},
        WrittenCall{
            "gemma4",
            "<|tool_call>call:trip{city:<|\"|>Rome<|\"|>,days:3,quiet:true,"
            "unit:<|\"|>C<|\"|>}<tool_call|>",
            "true",
            ",unit:<|\"|>C<|\"|>",
            {"<|tool_call>", "<tool_call|>", "<|\"|>"}},
        WrittenCall{
            "function_gemma",
            "<start_function_call>call:trip{city:<escape>Rome<escape>,days:3,"
            "quiet:true,unit:<escape>C<escape>}<end_function_call>"},
        WrittenCall{
            "glm47",
            "<tool_call>trip\n<arg_key>city</arg_key>\n<arg_value>Rome"
            "</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
            "<arg_key>quiet</arg_key>\n<arg_value>true</arg_value>\n<arg_key>"
            "unit</arg_key>\n<arg_value>C</arg_value>\n</tool_call>",
            "true",
            "<arg_key>unit</arg_key>\n<arg_value>C</arg_value>\n",
            {"<tool_call>", "</tool_call>", "</arg_value>"}},
        WrittenCall{
            "longcat",
            "<longcat_tool_call>trip\n<longcat_arg_key>city</longcat_arg_key>\n"
            "<longcat_arg_value>Rome</longcat_arg_value>\n<longcat_arg_key>days"
            "</longcat_arg_key>\n<longcat_arg_value>3</longcat_arg_value>\n"
            "<longcat_arg_key>quiet</longcat_arg_key>\n<longcat_arg_value>true"
            "</longcat_arg_value>\n<longcat_arg_key>unit</longcat_arg_key>\n"
            "<longcat_arg_value>C</longcat_arg_value>\n</longcat_tool_call>"},
        WrittenCall{
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.trip:0"
            "<|tool_call_argument_begin|>{\"city\": \"Rome\", \"days\": 3, "
            "\"quiet\": true, \"unit\": \"C\"}<|tool_call_end|>"
            "<|tool_calls_section_end|>",
            "true",
            ", \"unit\": \"C\"",
            {"<|tool_calls_section_begin|>", "<|tool_call_end|>"}},
        WrittenCall{
            "kimi_k3",
            "<|open|>tools<|sep|><|open|>call tool=\"trip\" index=\"1\"<|sep|>"
            "<|open|>argument key=\"city\" type=\"string\"<|sep|>Rome<|close|>"
            "argument<|sep|><|open|>argument key=\"days\" type=\"number\""
            "<|sep|>3<|close|>argument<|sep|><|open|>argument key=\"quiet\" "
            "type=\"boolean\"<|sep|>true<|close|>argument<|sep|><|open|>"
            "argument key=\"unit\" type=\"string\"<|sep|>C<|close|>argument"
            "<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
            "true",
            nullptr,
            {"<|open|>", "<|close|>", "<|sep|>"}},
        WrittenCall{
            "minimax_m2",
            "<minimax:tool_call>\n<invoke name=\"trip\">\n<parameter "
            "name=\"city\">Rome</parameter>\n<parameter name=\"days\">3"
            "</parameter>\n<parameter name=\"quiet\">true</parameter>\n"
            "<parameter name=\"unit\">C</parameter>\n</invoke>\n"
            "</minimax:tool_call>",
            "true",
            "<parameter name=\"unit\">C</parameter>\n"},
        WrittenCall{
            "minimax_m3",
            "]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"trip\">"
            "]<]minimax[>[<city>Rome]<]minimax[>[</city>]<]minimax[>[<days>3"
            "]<]minimax[>[</days>]<]minimax[>[<quiet>true]<]minimax[>[</quiet>"
            "]<]minimax[>[<unit>C]<]minimax[>[</unit>]<]minimax[>[</invoke>"
            "]<]minimax[>[</tool_call>",
            "true",
            "]<]minimax[>[<unit>C]<]minimax[>[</unit>"},
        WrittenCall{
            "minicpm5",
            "<function name=\"trip\"><param name=\"city\">Rome</param><param "
            "name=\"days\">3</param><param name=\"quiet\">true</param><param "
            "name=\"unit\">C</param></function>",
            "true",
            "<param name=\"unit\">C</param>"},
        WrittenCall{
            "muse_spark",
            "<atem:function_calls>\n<atem:invoke name=\"trip\">\n"
            "<atem:parameter name=\"city\">Rome</atem:parameter>\n"
            "<atem:parameter name=\"days\">3</atem:parameter>\n"
            "<atem:parameter name=\"quiet\">true</atem:parameter>\n"
            "<atem:parameter name=\"unit\">C</atem:parameter>\n</atem:invoke>\n"
            "</atem:function_calls>"},
        WrittenCall{
            "harmony",
            "<|channel|>commentary to=functions.trip <|constrain|>json"
            "<|message|>{\"city\": \"Rome\", \"days\": 3, \"quiet\": true, "
            "\"unit\": \"C\"}<|call|>",
            "true",
            ", \"unit\": \"C\"",
            {"<|channel|>",
             "<|message|>",
             "<|end|>",
             "<|constrain|>",
             "<|call|>"}},
        WrittenCall{
            "deepseek_v3",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
            "trip\n```json\n{\"city\": \"Rome\", \"days\": 3, \"quiet\": true, "
            "\"unit\": \"C\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
        WrittenCall{
            "deepseek_v31",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>trip<｜tool▁sep｜>"
            "{\"city\": \"Rome\", \"days\": 3, \"quiet\": true, \"unit\": "
            "\"C\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
        WrittenCall{
            "deepseek_v32",
            "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"trip\">\n"
            "<｜DSML｜parameter name=\"city\" string=\"true\">Rome"
            "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" "
            "string=\"false\">3</｜DSML｜parameter>\n<｜DSML｜parameter "
            "name=\"quiet\" string=\"false\">true</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"unit\" string=\"true\">C"
            "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
            ">true<"},
        WrittenCall{
            "internlm",
            "<|action_start|><|plugin|>{\"name\": \"trip\", \"parameters\": "
            "{\"city\": \"Rome\", \"days\": 3, \"quiet\": true, \"unit\": "
            "\"C\"}}<|action_end|>"}));

TEST(ForcedCalls, EveryFormatCanBeForced) {
  for (const auto* format : tool_formats())
    EXPECT_NE(format->syntax, nullptr) << format->name;
}

// Harmony's channels: it may think first, and the call may end the answer.
TEST(ForcedCalls, HarmonyMayThinkFirst) {
  const std::vector<std::string> marks = {
      "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>", "<|call|>"};
  ForcedCall forced("harmony", trip_tools(), marks);
  std::string call =
      "<|channel|>commentary to=functions.trip <|constrain|>json<|message|>"
      "{\"city\": \"Rome\", \"days\": 3, \"quiet\": true, \"unit\": 5}";
  EXPECT_TRUE(forced.takes(call));
  std::string thought =
      "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
  EXPECT_TRUE(forced.takes(thought + call + "<|call|>"));
  EXPECT_FALSE(forced.takes(thought));
  EXPECT_FALSE(forced.takes("<|channel|>final<|message|>Hm."));
}

} // namespace
} // namespace mlxlm

// Grammars that force calls: for every format, what it writes is taken and
// read back by its own parser, and nothing else is taken.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/strings.h"
#include "mlxlm/error.h"
#include "text/grammar.h"
#include "text/output_parser.h"
#include "text/testing.h"
#include "text/tools/grammar.h"

namespace mlxlm {
namespace {

constexpr int end_of_answer = 261; // "<|end|>" of the small vocabulary

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

// The small vocabulary and some tokens behind it, special ones.
TokenizerPtr tokenizer_with(const std::vector<std::string>& marks) {
  text::SmallVocabulary small;
  auto& gguf = small.gguf;
  for (const auto& mark : marks) {
    gguf.tokens.emplace_back(mark);
    gguf.token_type.push_back(3);
  }
  return tokenizer_from_gguf(gguf, "small");
}

class Forced {
 public:
  explicit Forced(
      std::string_view format,
      Json tools = trip_tools(),
      const std::vector<std::string>& marks = {})
      : format_(find_tool_format(format)),
        tools_(std::move(tools)),
        tokenizer_(tokenizer_with(marks)),
        vocabulary_(std::make_shared<GrammarVocabulary>(
            *tokenizer_,
            320,
            std::set<int>{end_of_answer})),
        grammar_(
            vocabulary_,
            tool_call_grammar(*format_, tools_, *tokenizer_)) {}

  bool takes(std::string_view text) const {
    auto ids = tokenizer_->encode(text, {.add_special = false});
    auto copy = grammar_;
    return copy.accept(ids) == ids.size() && copy.may_end();
  }

  // Drawn at random from what may come next; ends where it may.
  std::string draw(unsigned seed, int most = 3000) const {
    std::mt19937 random(seed);
    auto grammar = grammar_;
    std::vector<int> ids;
    while (most-- > 0) {
      auto mask = grammar.mask();
      std::vector<int> next;
      for (std::size_t id = 0; id < mask.size() * 32; ++id)
        if (mask[id / 32] >> (id % 32) & 1) next.push_back(int(id));
      EXPECT_FALSE(next.empty()) << tokenizer_->decode(ids);
      if (next.empty() ||
          (grammar.may_end() &&
           std::find(next.begin(), next.end(), end_of_answer) != next.end()))
        break;
      // Where it may not end, its text is offered, as that of another token.
      std::erase(next, end_of_answer);
      // Of the 256 bytes few mean something: those come more often.
      std::erase_if(next, [&](int id) {
        return next.size() > 40 && id < 256 && id > 93;
      });
      ids.push_back(next[random() % next.size()]);
      EXPECT_TRUE(grammar.accept(ids.back()));
    }
    EXPECT_GT(most, 0) << tokenizer_->decode(ids);
    return tokenizer_->decode(ids);
  }

  // By the incremental parser, a byte at a time.
  Output read(std::string_view text) const {
    OutputParser parser({nullptr, format_}, {.tools = tools_});
    Output out;
    for (char c : text)
      for (const auto& item : parser.feed(std::string(1, c)))
        add(out, item);
    for (const auto& item : parser.finish())
      add(out, item);
    return out;
  }

 private:
  const ToolFormat* format_;
  Json tools_;
  TokenizerPtr tokenizer_;
  GrammarVocabularyPtr vocabulary_;
  Grammar grammar_;
};

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
  Forced forced(name, trip_tools(), marks);
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
  Forced forced(GetParam().format, trip_tools(), GetParam().marks);
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
  Forced forced("harmony", trip_tools(), marks);
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

// Texts that a reader would take for something else are not offered.
TEST(ForcedCalls, TextsStayTexts) {
  auto tools = Json::parse(R"([{"type": "function", "function": {"name": "f",
    "parameters": {"type": "object", "required": ["a"], "properties": {
      "a": {"type": "string"}}}}}])");
  struct {
    const char *format, *before, *behind;
  } cases[] = {
      {"qwen3_coder",
       "<tool_call>\n<function=f>\n<parameter=a>\n",
       "\n</parameter>\n</function>\n</tool_call>"},
      {"minimax_m2",
       "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"a\">",
       "</parameter>\n</invoke>\n</minimax:tool_call>"}};
  for (const auto& [name, before, behind] : cases) {
    Forced forced(name, tools);
    for (const char* text : {"null", "NULL"})
      EXPECT_FALSE(forced.takes(before + std::string(text) + behind)) << text;
    for (const char* text : {"5", "true", "nullable", "a\n</b>", "{}"}) {
      auto call = before + std::string(text) + behind;
      EXPECT_TRUE(forced.takes(call)) << call;
      auto output = forced.read(call);
      ASSERT_EQ(output.calls.size(), 1U) << call;
      EXPECT_EQ(Json::parse(output.calls[0].arguments), Json({{"a", text}}));
    }
  }
}

TEST(ForcedCalls, PatternsAndLengthsHold) {
  auto tools = Json::parse(R"([{"type": "function", "function": {"name": "f",
    "parameters": {"type": "object", "required": ["a", "b"], "properties": {
      "a": {"type": "string", "pattern": "^\\d{2}/[\\w.]+$"},
      "b": {"type": "string", "minLength": 2, "maxLength": 3}}}}}])");
  for (const char* name : {"qwen3_coder", "glm47"}) {
    Forced forced(name, tools);
    auto call = [&](const std::string& a, const std::string& b) {
      return std::string_view(name) == "glm47"
          ? "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>" + a +
              "</arg_value>\n<arg_key>b</arg_key>\n<arg_value>" + b +
              "</arg_value>\n</tool_call>"
          : "<tool_call>\n<function=f>\n<parameter=a>\n" + a +
              "\n</parameter>\n<parameter=b>\n" + b +
              "\n</parameter>\n</function>\n</tool_call>";
    };
    EXPECT_TRUE(forced.takes(call("12/a.b", "xy")));
    EXPECT_FALSE(forced.takes(call("1/a.b", "xy")));
    EXPECT_FALSE(forced.takes(call("12/a-b", "xy")));
    EXPECT_FALSE(forced.takes(call("12/a", "x")));
    EXPECT_FALSE(forced.takes(call("12/a", "wxyz")));
  }
}

// A tree refers to itself: the rule of its grammar as well.
TEST(ForcedCalls, SchemasThatReferToThemselves) {
  auto tools = Json::parse(R"([{"type": "function", "function": {"name": "f",
    "parameters": {"type": "object", "required": ["t"], "properties": {
      "t": {"$ref": "#/$defs/tree"}}, "$defs": {"tree": {"type": "object",
      "required": ["v"], "properties": {"v": {"type": "integer"},
      "l": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}}}}])");
  Forced gemma("gemma4", tools);
  EXPECT_TRUE(gemma.takes(
      "<|tool_call>call:f{t:{v:1,l:[{v:2},{v:3,l:[]}]}}<tool_call|>"));
  EXPECT_FALSE(gemma.takes("<|tool_call>call:f{t:{l:[{v:2}]}}<tool_call|>"));
  Forced python("pythonic", tools);
  EXPECT_TRUE(
      python.takes("<|tool_call_start|>[f(t={\"v\": 1, \"l\": [{\"v\": 2}]})]"
                   "<|tool_call_end|>"));
}

// ---- schemas: what is asked for is enforced, or refused with its place
Json tool_with(const char* parameters) {
  return Json::array(
      {{{"type", "function"},
        {"function",
         {{"name", "f"}, {"parameters", Json::parse(parameters)}}}}});
}

const std::vector<std::string> spelled_marks = {
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>"};

// Whether a call in Python's syntax is taken.
bool python_takes(const char* parameters, const std::string& arguments) {
  Forced forced("pythonic", tool_with(parameters), spelled_marks);
  return forced.takes(
      "<|tool_call_start|>[f(" + arguments + ")]<|tool_call_end|>");
}
bool xml_takes(const char* parameters, const std::string& value) {
  Forced forced("seed_oss", tool_with(parameters));
  return forced.takes(
      "<seed:tool_call>\n<function=f>\n<parameter=a>" + value +
      "</parameter>\n</function>\n</seed:tool_call>");
}

TEST(ForcedSchemas, ListsWithABeginning) {
  const char* tuple = R"({"required": ["a"], "properties": {"a": {
      "type": "array", "prefixItems": [{"enum": [1]}, {"enum": ["b"]}],
      "items": {"type": "boolean"}, "minItems": 1, "maxItems": 4}}})";
  for (const char* right :
       {"a=[1]", "a=[1, \"b\"]", "a=[1, \"b\", True, False]"})
    EXPECT_TRUE(python_takes(tuple, right)) << right;
  for (const char* wrong :
       {"a=[]",
        "a=[\"b\"]",
        "a=[1, True]",
        "a=[1, \"b\", 1]",
        "a=[1, \"b\", True, False, True]",
        "a=[1, ]"})
    EXPECT_FALSE(python_takes(tuple, wrong)) << wrong;
  const char* closed = R"({"required": ["a"], "properties": {"a": {
      "prefixItems": [{"enum": [1]}], "items": false}}})";
  EXPECT_TRUE(python_takes(closed, "a=[]"));
  EXPECT_TRUE(python_takes(closed, "a=[1]"));
  EXPECT_FALSE(python_takes(closed, "a=[1, 1]"));
}

TEST(ForcedSchemas, WhatStandsBesideAlternatives) {
  const char* beside = R"({"required": ["a"], "properties": {"a": {
      "maxLength": 3, "anyOf": [{"type": "string", "minLength": 2},
                                {"type": "string", "pattern": "^x"}]}}})";
  for (bool xml : {false, true}) {
    auto takes = [&](const std::string& text) {
      return xml ? xml_takes(beside, text)
                 : python_takes(beside, "a=\"" + text + "\"");
    };
    EXPECT_TRUE(takes("ab") && takes("abc") && takes("x")) << xml;
    EXPECT_FALSE(takes("a") || takes("abcd") || takes("xbcd")) << xml;
  }
  const char* referred = R"({"required": ["a"], "properties": {"a": {
      "$ref": "#/$defs/n", "maximum": 3}},
      "$defs": {"n": {"type": "integer", "minimum": 2}}})";
  EXPECT_TRUE(python_takes(referred, "a=3") && xml_takes(referred, "2"));
  EXPECT_FALSE(python_takes(referred, "a=4") || xml_takes(referred, "4"));
  EXPECT_FALSE(python_takes(referred, "a=1") || xml_takes(referred, "1"));
  const char* chosen = R"({"required": ["a"], "properties": {"a": {
      "enum": [1, 5, "long", "s"], "maximum": 3, "maxLength": 2}}})";
  EXPECT_TRUE(python_takes(chosen, "a=1") && python_takes(chosen, "a=\"s\""));
  EXPECT_FALSE(python_takes(chosen, "a=5"));
  EXPECT_FALSE(python_takes(chosen, "a=\"long\""));
}

TEST(ForcedSchemas, ArgumentsInParts) {
  const char* parts = R"({"type": "object",
      "allOf": [{"properties": {"a": {"enum": [1]}}, "required": ["a"]},
                {"$ref": "#/$defs/more"}],
      "$defs": {"more": {"properties": {"b": {"enum": [2]}}}}})";
  EXPECT_TRUE(python_takes(parts, "a=1") && python_takes(parts, "a=1, b=2"));
  EXPECT_FALSE(python_takes(parts, "b=2") || python_takes(parts, "a=2"));
  const char* either = R"({"anyOf": [
      {"properties": {"a": {"enum": [1]}}, "required": ["a"]},
      {"properties": {"b": {"enum": [2]}}, "required": ["b"]}]})";
  EXPECT_TRUE(python_takes(either, "a=1") && python_takes(either, "b=2"));
  EXPECT_FALSE(python_takes(either, "") || python_takes(either, "a=2"));
  // Needed without a schema of its own; so many at least, and at most.
  const char* needed = R"({"required": ["a"],
      "additionalProperties": {"enum": [1]}})";
  EXPECT_TRUE(python_takes(needed, "a=1"));
  EXPECT_FALSE(python_takes(needed, "") || python_takes(needed, "a=2"));
  const char* counted = R"({"minProperties": 1, "maxProperties": 1,
      "properties": {"a": {"enum": [1]}, "b": {"enum": [1]}}})";
  EXPECT_TRUE(python_takes(counted, "a=1"));
  EXPECT_FALSE(python_takes(counted, "") || python_takes(counted, "a=1, b=1"));
  const char* named = R"({"required": ["a"], "properties": {"a": {
      "additionalProperties": false,
      "patternProperties": {"^[a-c]{2}$": {"enum": [1]}}}}})";
  EXPECT_TRUE(python_takes(named, R"(a={"ab": 1, "cc": 1})"));
  EXPECT_TRUE(python_takes(named, "a={}"));
  EXPECT_FALSE(python_takes(named, R"(a={"a": 1})"));
  EXPECT_FALSE(python_takes(named, R"(a={"ab": 2})"));
  const char* itself = R"({"required": ["a"], "properties": {
      "a": {"type": "object", "additionalProperties": false,
            "properties": {"b": {"$ref": "#/properties/a"}}}}})";
  EXPECT_TRUE(python_takes(itself, R"(a={"b": {"b": {}}})"));
  EXPECT_FALSE(python_takes(itself, R"(a={"b": {"c": {}}})"));
  EXPECT_TRUE(xml_takes(itself, R"({"b": {"b": {}}})"));
  EXPECT_FALSE(xml_takes(itself, R"({"b": {"b": 5}})"));
}

TEST(ForcedSchemas, PatternsAndFormatsOfTexts) {
  auto of = [](const std::string& what) {
    return R"({"required": ["a"], "properties": {"a": {"type": "string", )" +
        what + "}}}";
  };
  struct {
    const char *what, *right, *wrong;
  } cases[] = {
      {R"("pattern": "^a|b$")", "ac", "c"},
      {R"("pattern": "^a|b$")", "cb", "bc"},
      {R"("pattern": "^(a|b)$")", "a", "ac"},
      {R"("pattern": "[^0-9]+$")", "5x", "x5"},
      {R"("pattern": "^\\$[$^]?$")", "$^", "x"},
      {R"("pattern": "^a\\\\$")", "a\\", "a$"},
      {R"("format": "date")", "2024-02-28", "2024-02-30"},
      {R"("format": "uuid")",
       "01234567-89ab-cdef-0123-456789abcdef",
       "01234567"},
      {R"("format": "ipv4")", "10.0.255.1", "10.0.256.1"},
      {R"("format": "ipv6")", "1:2::7:8", "1:2:3"},
      {R"("format": "ipv6")", "::1", ":1"},
      {R"("format": "email")", "a.b@c.de", "a@b"},
      {R"("format": "uri")", "https://a.b/c?d=e#f", "no uri"},
      {R"("format": "date-time")",
       "2024-01-31T23:59:59.5+01:00",
       "2024-01-31 23:59:59"},
      {R"("format": "duration")", "P1DT2H", "P"},
      {R"("minLength": 3, "maxLength": 5)", "a</b", "a</parameter>"},
  };
  for (const auto& [what, right, wrong] : cases) {
    auto schema = of(what);
    EXPECT_TRUE(xml_takes(schema.c_str(), right)) << what;
    EXPECT_FALSE(xml_takes(schema.c_str(), wrong)) << what;
  }
  // The mark that ends a text does not come within it.
  auto five = of(R"("minLength": 5)");
  EXPECT_FALSE(python_takes(five.c_str(), "a=\"a\"bcd\""));
  EXPECT_FALSE(xml_takes(five.c_str(), "a</parameter>bcd"));
}

TEST(ForcedSchemas, RefusalsNameThePlace) {
  auto refusal = [](const char* format, const char* parameters) -> std::string {
    try {
      Forced(format, tool_with(parameters), spelled_marks);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::request);
      return error.what();
    }
    return "taken";
  };
  struct {
    const char *parameters, *place;
  } everywhere[] = {
      {R"({"properties": {"a": {"not": {}}}})", "#/properties/a/not"},
      {R"({"properties": {"a": {"items": {"contains": {}}}}})",
       "#/properties/a/items/contains"},
      {R"({"properties": {"a": {"uniqueItems": true}}})", "uniqueItems"},
      {R"({"if": {}, "then": {}})", "#/if"},
      {R"({"dependentRequired": {"a": ["b"]}})", "dependentRequired"},
      {R"({"properties": {"a": {"minLength": "5"}}})", "minLength"},
      {R"({"properties": {"a": {"type": 5}}})", "#/properties/a/type"},
      {R"({"properties": {"a": 5}})", "#/properties"},
      {R"({"required": "a"})", "#/required"},
      {R"({"properties": {"a": {"anyOf": []}}})", "#/properties/a/anyOf"}};
  for (const char* format : {"hermes", "seed_oss", "pythonic", "gemma4"})
    for (const auto& [parameters, place] : everywhere)
      EXPECT_NE(refusal(format, parameters).find(place), std::string::npos)
          << format << " " << refusal(format, parameters);
  // Where values are no JSON.
  struct {
    const char *format, *parameters, *place;
  } some[] = {
      {"seed_oss",
       R"({"properties": {"a": {"type": "string", "format": "frog"}}})",
       "#/properties/a"},
      {"seed_oss",
       R"({"properties": {"a": {"type": "string", "pattern": "a^b"}}})",
       "#/properties/a"},
      {"seed_oss", R"({"properties": {"a>b": {}}})", "a>b"},
      {"seed_oss", R"({"properties": {"a": {"type": "frog"}}})", "frog"},
      {"seed_oss",
       R"({"properties": {"a": {"$ref": "#/$defs/none"}}})",
       "leads nowhere"},
      {"pythonic",
       R"({"properties": {"a": {"patternProperties": {"^x": {}}}}})",
       "patternProperties"}, // others may come as well
      {"pythonic", R"({"properties": {"a b": {}}})", "a b"},
      {"gemma4",
       R"({"properties": {"a": {"properties": {"b c": {}}}}})",
       "b c"},
      {"pythonic",
       R"({"required": ["b"], "additionalProperties": false})",
       "needed and forbidden"},
      {"pythonic",
       R"({"properties": {"a": {"oneOf": [{"type": "string"},
          {"type": "string", "minLength": 2}]}}})",
       "oneOf"}};
  for (const auto& [format, parameters, place] : some)
    EXPECT_NE(refusal(format, parameters).find(place), std::string::npos)
        << format << " " << parameters << " " << refusal(format, parameters);
}

} // namespace
} // namespace mlxlm

// Grammars that force calls hold the arguments to their schema, in every
// syntax; what they cannot hold is refused with its place.
#include "mlxlm/error.h"
#include "text/tools/forced_call.h"

namespace mlxlm {
namespace {

// Texts that a reader would take for something else are not offered.
TEST(ForcedSchemas, TextsStayTexts) {
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
    ForcedCall forced(name, tools);
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

TEST(ForcedSchemas, PatternsAndLengthsHold) {
  auto tools = Json::parse(R"([{"type": "function", "function": {"name": "f",
    "parameters": {"type": "object", "required": ["a", "b"], "properties": {
      "a": {"type": "string", "pattern": "^\\d{2}/[\\w.]+$"},
      "b": {"type": "string", "minLength": 2, "maxLength": 3}}}}}])");
  for (const char* name : {"qwen3_coder", "glm47"}) {
    ForcedCall forced(name, tools);
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
TEST(ForcedSchemas, SchemasThatReferToThemselves) {
  auto tools = Json::parse(R"([{"type": "function", "function": {"name": "f",
    "parameters": {"type": "object", "required": ["t"], "properties": {
      "t": {"$ref": "#/$defs/tree"}}, "$defs": {"tree": {"type": "object",
      "required": ["v"], "properties": {"v": {"type": "integer"},
      "l": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}}}}])");
  ForcedCall gemma("gemma4", tools);
  EXPECT_TRUE(gemma.takes(
      "<|tool_call>call:f{t:{v:1,l:[{v:2},{v:3,l:[]}]}}<tool_call|>"));
  EXPECT_FALSE(gemma.takes("<|tool_call>call:f{t:{l:[{v:2}]}}<tool_call|>"));
  ForcedCall python("pythonic", tools);
  EXPECT_TRUE(
      python.takes("<|tool_call_start|>[f(t={\"v\": 1, \"l\": [{\"v\": 2}]})]"
                   "<|tool_call_end|>"));
}

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
  ForcedCall forced("pythonic", tool_with(parameters), spelled_marks);
  return forced.takes(
      "<|tool_call_start|>[f(" + arguments + ")]<|tool_call_end|>");
}
bool xml_takes(const char* parameters, const std::string& value) {
  ForcedCall forced("seed_oss", tool_with(parameters));
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
      ForcedCall(format, tool_with(parameters), spelled_marks);
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

#include "text/tools/values.h"

#include <gtest/gtest.h>

#include "text/tools/json_scanner.h"
#include "text/tools/python_literal.h"

namespace mlxlm::tools {
namespace {

std::string literal(std::string_view text) {
  auto value = python_literal(text);
  return value ? value->dump() : "none";
}

TEST(PythonLiteral, ReadsWhatLiteralEvalReads) {
  EXPECT_EQ(
      literal("{'a': [1, -2.5, None], \"b\": (True,)}"),
      R"({"a":[1,-2.5,null],"b":[true]})");
  EXPECT_EQ(literal("'it\\'s' \"\\x41\\u00e9\\n\""), "\"it'sAé\\n\"");
  EXPECT_EQ(literal("'''a\nb'''"), "\"a\\nb\"");
  EXPECT_EQ(literal("r'a\\n'"), "\"a\\\\n\"");
  EXPECT_EQ(literal("0x1F"), "31");
  EXPECT_EQ(literal("1_000"), "1000");
  EXPECT_EQ(literal("(1)"), "1");
  EXPECT_EQ(literal("()"), "[]");
  EXPECT_EQ(literal("{1, 2}"), "[1,2]");
  EXPECT_EQ(literal("{}"), "{}");
}

TEST(PythonLiteral, RefusesTheRest) {
  for (const char* text :
       {"",
        "x",
        "true",
        "1 2",
        "[1",
        "{'a' 1}",
        "'a",
        "f(1)",
        "012",
        "1__0",
        "[1,,2]",
        "{'a': 1, 2}",
        "b'x'",
        "--",
        "'\\ud800'"})
    EXPECT_EQ(literal(text), "none") << text;
  EXPECT_EQ(literal(std::string(1000, '[')), "none");
}

TEST(PythonCalls, NamesAndKeywords) {
  auto calls = python_calls("[f(a=1, b={'x': true}), g.h()]");
  ASSERT_TRUE(calls);
  ASSERT_EQ(calls->size(), 2U);
  EXPECT_EQ((*calls)[0].arguments.dump(), R"({"a":1,"b":{"x":true}})");
  EXPECT_EQ((*calls)[1].name, "g.h");
  EXPECT_FALSE(python_calls("[]"));
  EXPECT_FALSE(python_calls("[f(1)]"));
  EXPECT_FALSE(python_calls("[f(a=1)"));
}

bool whole(std::string_view text) {
  JsonScanner scanner;
  for (char c : text)
    if (!scanner.push(c)) return false;
  return scanner.done();
}

TEST(JsonScanner, KnowsWholeValues) {
  for (const char* text :
       {"{}",
        "[]",
        "\"a\\u00e9\"",
        "{\"a\": [1, -2.5e3, true, null]}",
        "[{\"x\": \"}\"}]",
        "[ ]",
        "{ \"a\" : \"\\\"\" }",
        "[0, -0.5]"})
    EXPECT_TRUE(whole(text)) << text;
  for (const char* text :
       {"",
        "{",
        "{]",
        "{'a': 1}",
        "{\"a\": 1,}",
        "[1,]",
        "[1 2]",
        "{\"a\" 1}",
        "[01]",
        "[1.]",
        "[tru]",
        "{}x",
        "\"a\nb\"",
        "[\"\\x\"]",
        "[-]",
        "{\"a\": 1} "})
    EXPECT_FALSE(whole(text)) << text;
  EXPECT_FALSE(whole(std::string(1000, '[')));
}

TEST(Values, PythonNumbers) {
  EXPECT_EQ(*python_int(" -12 "), -12);
  EXPECT_FALSE(python_int("1.0"));
  EXPECT_EQ(*python_number("2.0"), 2);
  EXPECT_EQ(*python_number("1e3"), 1000);
  EXPECT_FALSE(python_number("0x10"));
  EXPECT_FALSE(python_number("abc"));
}

TEST(Values, TypedBySchema) {
  auto typed = [](std::string_view text, const char* schema) {
    auto json = Json::parse(schema);
    return typed_value(text, &json).dump();
  };
  EXPECT_EQ(typed("7", R"({"type": "string"})"), "\"7\"");
  EXPECT_EQ(typed("7", R"({"type": ["string", "integer"]})"), "7");
  EXPECT_EQ(
      typed("x", R"({"anyOf": [{"type": "integer"}, {"type": "null"}]})"),
      "\"x\"");
  EXPECT_EQ(typed("none", R"({"enum": [null, 1]})"), "null");
  EXPECT_EQ(typed("yes", R"({"type": "boolean"})"), "true");
  EXPECT_EQ(typed("{'a': 1}", R"({"type": "object"})"), R"({"a":1})");
  EXPECT_EQ(typed_value("7", nullptr).dump(), "\"7\"");
}

TEST(Values, StripKnowsUnicodeSpace) {
  EXPECT_EQ(strip("\u3000 a b\u00a0\n"), "a b");
  EXPECT_EQ(strip(" \t"), "");
}

} // namespace
} // namespace mlxlm::tools

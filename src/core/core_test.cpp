#include <gtest/gtest.h>

#include "core/fields.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

std::string error_of(auto&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Fields, NamesFileFieldExpectedAndFound) {
  Fields f(
      parse_json(R"({"text_config":{"heads":"8","big":4294967296}})", "t"),
      "config.json");
  EXPECT_EQ(
      error_of([&] { f.sub("text_config").req<int>("heads"); }),
      R"(config.json: text_config.heads: expected an integer, found "8")");
  EXPECT_EQ(
      error_of([&] { f.sub("text_config").req<int>("big"); }),
      "config.json: text_config.big: expected an integer, found 4294967296");
  EXPECT_EQ(
      error_of([&] { f.req<int>("depth"); }),
      "config.json: depth: expected an integer, found nothing");
  EXPECT_EQ(f.opt("depth", 3), 3);
}

TEST(Json, RefusesDepthDuplicatesAndRubbish) {
  EXPECT_EQ(
      error_of([] { parse_json(std::string(100, '['), "config.json"); }),
      "config.json: expected at most 64 levels of nesting, found more");
  EXPECT_EQ(
      error_of([] { parse_json(R"({"a":1,"a":2})", "config.json"); }),
      "config.json: expected each key once, found \"a\" twice");
  EXPECT_THROW(parse_json("{", "config.json"), Error);
  EXPECT_THROW(parse_json("{\"a\":NaN}", "config.json"), Error);
}

TEST(Json, ReadsPythonsNonFiniteNumbers) {
  Fields f(
      parse_json(
          R"({"a":-Infinity,"b":"NaN \" Infinity"})",
          "x",
          ErrorKind::config,
          {.nonfinite = true}),
      "x");
  EXPECT_LT(f.req<double>("a"), 0);
  EXPECT_EQ(f.req<std::string>("b"), "NaN \" Infinity");
}

TEST(Strings, Utf8) {
  EXPECT_TRUE(valid_utf8("h\xC3\xA9"));
  EXPECT_FALSE(valid_utf8("\xED\xA0\x80"));
  EXPECT_EQ(complete_utf8("a\xF0\x9F\x98"), 1u);
  EXPECT_EQ(complete_utf8("a\xC3\xA9"), 3u);
  EXPECT_EQ(
      replace_invalid_utf8("a\xF0\x9F\x98"
                           "b"),
      "a\xEF\xBF\xBD"
      "b");
  EXPECT_EQ(replace_invalid_utf8("\xE0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Strings, GlobAndNearest) {
  EXPECT_TRUE(glob_match("model.*.weight", "model.layers.0.weight"));
  EXPECT_FALSE(glob_match("model.?", "model.10"));
  std::vector<std::string> names{"llama", "qwen3", "gemma3"};
  EXPECT_EQ(nearest("lama", names).front(), "llama");
}

} // namespace
} // namespace mlxlm

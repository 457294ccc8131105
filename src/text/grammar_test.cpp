#include "text/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "mlxlm/error.h"
#include "text/testing.h"
#include "text/tools/grammar.h"

namespace mlxlm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int end_token = 261; // "<|end|>" of the small vocabulary

class GrammarTest : public ::testing::Test {
 protected:
  GrammarTest()
      : tokenizer(tokenizer_from_gguf(text::SmallVocabulary().gguf, "small")),
        vocabulary(std::make_shared<GrammarVocabulary>(
            *tokenizer,
            300,
            std::set<int>{end_token})) {}

  Grammar make(GrammarKind kind, const std::string& source) const {
    return Grammar(vocabulary, {kind, source});
  }

  static std::vector<int> allowed(std::span<const std::uint32_t> mask) {
    std::vector<int> out;
    for (std::size_t id = 0; id < mask.size() * 32; ++id)
      if (mask[id / 32] >> (id % 32) & 1) out.push_back(static_cast<int>(id));
    return out;
  }

  // A text drawn at random from what the grammar allows.
  std::string draw(Grammar grammar, unsigned seed, int most = 400) const {
    std::mt19937 random(seed);
    std::vector<int> ids;
    while (most-- > 0) {
      auto next = allowed(grammar.mask());
      EXPECT_FALSE(next.empty());
      if (next.empty()) break;
      // Ends where it may: random strings would go on for long.
      // The small vocabulary's end is one of Harmony's marks as well.
      bool may_end = grammar.may_end() &&
          std::find(next.begin(), next.end(), end_token) != next.end();
      int id = may_end ? end_token : next[random() % next.size()];
      if (id == end_token) return tokenizer->decode(ids);
      EXPECT_TRUE(grammar.accept(id));
      ids.push_back(id);
    }
    ADD_FAILURE() << "no end: " << tokenizer->decode(ids);
    return "";
  }

  // Whether the whole text is one of the grammar's.
  bool takes(Grammar grammar, std::string_view text) const {
    auto ids = tokenizer->encode(text, {.add_special = false});
    return grammar.accept(ids) == ids.size() && grammar.may_end();
  }

  std::string error(GrammarKind kind, const std::string& source) const {
    try {
      make(kind, source);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::request);
      EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos);
      return e.what();
    }
    return "";
  }

  TokenizerPtr tokenizer;
  GrammarVocabularyPtr vocabulary;
};

TEST_F(GrammarTest, RandomTextsOfASchemaAreValid) {
  auto grammar = make(GrammarKind::json_schema, R"({
    "type": "object", "additionalProperties": false,
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99},
                   "b": {"enum": ["hell", "he"]}, "c": {"type": "boolean"}},
    "required": ["a", "b"]})");
  for (unsigned seed = 0; seed < 30; ++seed) {
    auto json = Json::parse(draw(grammar, seed));
    EXPECT_LE(json.at("a").get<int>(), 99);
    EXPECT_THAT(
        (std::vector<std::string>{"hell", "he"}),
        ::testing::Contains(json.at("b").get<std::string>()));
    EXPECT_LE(json.size(), 3U);
  }
}

TEST_F(GrammarTest, RegexChoiceAndLark) {
  auto digits = make(GrammarKind::regex, "[0-9]{2,3}x");
  EXPECT_TRUE(takes(digits, "12x"));
  EXPECT_FALSE(takes(digits, "1x"));
  EXPECT_FALSE(takes(digits, "12"));
  auto choice =
      make(GrammarKind::choice, R"(["he said \"hello\"", "ll", "é"])");
  EXPECT_TRUE(takes(choice, "he said \"hello\""));
  EXPECT_TRUE(takes(choice, "é"));
  EXPECT_FALSE(takes(choice, "he"));
  auto lark =
      make(GrammarKind::lark, "start: \"a\" b+\nb: \"b\" | \"(\" b \")\"");
  EXPECT_TRUE(takes(lark, "ab((b))"));
  EXPECT_FALSE(takes(lark, "a((b)"));
}

TEST_F(GrammarTest, CopiesAndRollbackGoOnByThemselves) {
  auto grammar = make(GrammarKind::choice, R"(["hello x", "hello y"])");
  auto hello = tokenizer->encode("hello ", {.add_special = false});
  EXPECT_EQ(grammar.accept(hello), hello.size());
  auto copy = grammar;
  EXPECT_TRUE(grammar.accept(tokenizer->id_of("x")));
  EXPECT_TRUE(grammar.may_end());
  EXPECT_FALSE(copy.may_end());
  EXPECT_TRUE(copy.accept(tokenizer->id_of("y")));
  copy.rollback(1);
  EXPECT_TRUE(copy.accept(tokenizer->id_of("x")));
  EXPECT_FALSE(copy.accept(tokenizer->id_of("x")));
}

TEST_F(GrammarTest, TheEndAllowsOnlyWhatEnds) {
  auto grammar = make(GrammarKind::choice, R"(["he"])");
  EXPECT_TRUE(grammar.accept(tokenizer->id_of("he")));
  EXPECT_EQ(allowed(grammar.mask()), std::vector<int>{end_token});
  EXPECT_TRUE(grammar.ended());
}

TEST_F(GrammarTest, ForcedTokens) {
  auto grammar = make(GrammarKind::choice, R"(["hello x", "hello y"])");
  auto forced = grammar.forced();
  EXPECT_EQ(tokenizer->decode(forced).substr(0, 5), "hello");
}

TEST_F(GrammarTest, WhatCannotBeCompiledIsOneError) {
  EXPECT_THAT(error(GrammarKind::json_schema, "{"), HasSubstr("JSON"));
  EXPECT_THAT(
      error(GrammarKind::json_schema, R"({"type": "nothing"})"),
      HasSubstr("nothing"));
  EXPECT_THAT(
      error(
          GrammarKind::json_schema,
          R"({"properties": {"a": {"$ref": "#/$defs/missing"}}})"),
      HasSubstr("missing"));
  EXPECT_NE(error(GrammarKind::regex, "(unclosed"), "");
  EXPECT_THAT(error(GrammarKind::lark, "start: nowhere"), HasSubstr("nowhere"));
  EXPECT_NE(error(GrammarKind::choice, "[]"), "");
  EXPECT_NE(error(GrammarKind::choice, "[1]"), "");
  EXPECT_NE(error(GrammarKind::json_schema, ""), "");
}

// The kind of the error, not the compiler's words, tells that the tokens are
// too few; what begins with them compiles.
TEST(GrammarBeginningTest, TokensThatAreTooFew) {
  auto few = Tokenizer::from_json(R"({"added_tokens": [
    {"id": 0, "content": "<s>", "special": true, "single_word": false,
     "lstrip": false, "rstrip": false, "normalized": false}],
    "decoder": {"type": "Fuse"}, "model": {
    "type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2}, "merges": []}})");
  auto vocabulary =
      std::make_shared<GrammarVocabulary>(*few, 3, std::set<int>{0});
  const std::pair<GrammarKind, const char*> sources[] = {
      {GrammarKind::choice, R"(["c", "da"])"},
      {GrammarKind::regex, "c[ab]*"},
      {GrammarKind::lark, "start: \"c\" \"a\""},
      {GrammarKind::json_schema, R"({"type": "object"})"}};
  for (const auto& [kind, source] : sources) {
    try {
      Grammar made(vocabulary, {kind, source});
      ADD_FAILURE() << source;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::request);
      EXPECT_THAT(e.what(), HasSubstr("that none of them has"));
    }
  }
  Grammar fine(vocabulary, {GrammarKind::regex, "[ac]b|"});
  EXPECT_EQ(fine.mask()[0], 3U); // its end as well
  EXPECT_TRUE(fine.accept(1));
  EXPECT_TRUE(Grammar(vocabulary, {GrammarKind::regex, ""}).may_end());
  // No shortage: the compiler's own complaint.
  try {
    Grammar made(vocabulary, {GrammarKind::regex, "(c"});
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), Not(HasSubstr("that none of them has")));
  }
}

TEST_F(GrammarTest, OneOfOfTaggedObjects) {
  auto grammar = make(GrammarKind::json_schema, R"({
    "$defs": {
      "a": {"type": "object", "additionalProperties": false,
            "required": ["t"], "properties": {"t": {"const": "he"}}},
      "b": {"type": "object", "additionalProperties": false,
            "required": ["t", "x"], "properties": {
              "t": {"const": "ll"}, "x": {"type": "boolean"}}}},
    "oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]})");
  EXPECT_TRUE(takes(grammar, R"({"t":"he"})"));
  EXPECT_TRUE(takes(grammar, R"({"t":"ll","x":true})"));
  EXPECT_FALSE(takes(grammar, R"({"t":"he","x":true})"));
}

TEST_F(GrammarTest, ErrorsOfSchemasNameThePlace) {
  EXPECT_THAT(
      error(GrammarKind::json_schema, R"({"type": "object", "properties": {
        "a": {"oneOf": [{"type": "string"}, {"maxLength": 3}]}}})"),
      HasSubstr("#/properties/a/oneOf: expected alternatives"));
  EXPECT_THAT(
      error(
          GrammarKind::json_schema,
          R"({"items": {"type": "array", "uniqueItems": true}})"),
      HasSubstr("#/items/uniqueItems: "));
  EXPECT_THAT(
      error(GrammarKind::json_schema, R"({"properties": {"a": {"items": {
        "type": "string", "pattern": "("}}}, "$defs": {"b": {}}})"),
      HasSubstr("#/properties/a/items: "));
  EXPECT_THAT(
      error(GrammarKind::json_schema, R"({"properties": {"a": {"anyOf": [
        {"type": "string", "format": "frog"}]}}})"),
      HasSubstr("#/properties/a/anyOf/0: "));
  EXPECT_THAT(
      error(
          GrammarKind::lark,
          "start: \"x\" r\nr: %json {\"items\": {\"type\": \"frog\"}}\n"),
      HasSubstr("#/items: "));
}

TEST_F(GrammarTest, GrammarsOfLlamaCpp) {
  auto grammar = make(GrammarKind::lark, R"(# a remark with ::= in it
root  ::= greeting "," ws (number | "\"quoted\"")? end-Mark{1,2}
greeting ::= "he" "llo"   # another
  | [A-Z] [a-z]+ |
  "\x48i"
ws ::= | " " ws
number ::= "-"? ("0" | [1-9] [0-9]*)
end-Mark ::= [^a-z0-9"\n\u00e9\]-]
)");
  for (const char* text :
       {"hello,!",
        "Hello, -12!?",
        "Hi,  0.",
        "hello,\"quoted\"!",
        "Abc,\xc3\xa8"})
    EXPECT_TRUE(takes(grammar, text)) << text;
  for (const char* text :
       {"hello!",
        "A,!",
        "hello, 01x",
        "hello,-",
        "hello,!!!",
        "hello,\xc3\xa9"})
    EXPECT_FALSE(takes(grammar, text)) << text;
  struct {
    const char *text, *said;
  } wrong[] = {
      {"root ::= other\n", "line 1: expected a rule that there is"},
      {"a ::= \"x\"\n", "a rule \"root\""},
      {"root ::= \"x\"\nroot ::= \"y\"", "line 2: expected each rule once"},
      {"root ::= (\"x\"\nb ::= \"y\"", "line 2: expected )"},
      {"root ::= \"x", "expected the end of a text"},
      {"root ::= \"\\", "expected an escape"},
      {"root ::= \"\\x4\"", "hexadecimal"},
      {"root ::= []", "in []"},
      {"root ::= [b-a]", "range"},
      {"root ::= \"x\"{1,99999999}", "smaller"},
      {"root ::= <x>", "expected a text"},
      {"root ::= \"x\")", "expected a name"}};
  for (const auto& [text, said] : wrong)
    EXPECT_THAT(error(GrammarKind::lark, text), HasSubstr(said)) << text;
}

TEST_F(GrammarTest, LimitsHold) {
  EXPECT_THAT(
      error(GrammarKind::regex, std::string(2 << 20, 'a')), HasSubstr("bytes"));
  std::string deep;
  for (int i = 0; i < 5000; ++i)
    deep += R"({"items": )";
  EXPECT_NE(error(GrammarKind::json_schema, deep), "");
}

TEST_F(GrammarTest, ForcedCallsAreReadBack) {
  auto tools = Json::parse(R"([{"type": "function", "function": {
    "name": "hell", "parameters": {"type": "object",
    "additionalProperties": false, "required": ["x", "y"],
    "properties": {"x": {"enum": ["he", "ll"]}, "y": {"enum": [1, 2]}}}}}])");
  int tried = 0;
  for (const auto* format : tool_formats()) {
    if (!format->syntax || format->lead) continue; // see call_grammar_test
    ++tried;
    Grammar grammar(vocabulary, tool_call_grammar(*format, tools, *tokenizer));
    for (unsigned seed = 0; seed < 5; ++seed) {
      auto text = draw(grammar, seed);
      auto begin = text.find(format->open);
      auto payload = std::string_view(text).substr(0);
      if (format->bare != ToolFormat::Bare::any) {
        ASSERT_EQ(begin, 0U) << format->name << ": " << text;
        payload.remove_prefix(format->open.size());
        payload.remove_suffix(format->close.size());
      }
      auto calls = format->parse(payload, tools);
      ASSERT_EQ(calls.size(), 1U) << format->name << ": " << text;
      EXPECT_EQ(calls[0].name, "hell") << text;
      EXPECT_EQ(calls[0].arguments.size(), 2U) << text;
    }
  }
  EXPECT_GT(tried, 15);
  EXPECT_THROW(
      tool_call_grammar(
          *find_tool_format("hermes"), tools, *tokenizer, "other"),
      Error);
}

} // namespace
} // namespace mlxlm

#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/messages.h"
#include "text/prompt.h"
#include "text/testing.h"

namespace mlxlm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const ClockTime now{2026, 2, 3, 4, 5, 6};

std::string render(const char* source, const char* variables = "{}") {
  return ChatTemplate(source).render(Json::parse(variables), now);
}

std::string error_of(const char* source) {
  try {
    render(source);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::text);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return {};
}

ChatVariables talk(const char* messages) {
  ChatVariables v;
  v.messages = Json::parse(messages);
  return v;
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  EXPECT_EQ(
      error_of("a\n{{ raise_exception('roles must\nalternate') }}"),
      "chat template: line 2: roles must alternate");
  EXPECT_THAT(error_of("\n\n{% if %}"), HasSubstr("line 3"));
  EXPECT_THAT(error_of("{{ messages.nope.nope }}"), HasSubstr("line 1"));
}

TEST(ChatTemplate, LoopsEnd) {
  EXPECT_THAT(
      error_of("{% for a in range(9999) %}{% for b in range(9999) %}"
               "{% endfor %}{% endfor %}"),
      HasSubstr("too many steps"));
  EXPECT_THAT(
      error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
      HasSubstr("recursion"));
  EXPECT_THAT(
      error_of("{% for i in range(100000) %}{{ 'x' * 100 }}{% endfor %}"),
      HasSubstr("bytes of output"));
  EXPECT_NE(error_of("{{ 'x'|indent(100000000000) }}"), "");
  EXPECT_NE(error_of("{{ [1]|tojson(indent=100000000000) }}"), "");
  EXPECT_NE(error_of("{{ '-' * 100000000000 }}"), "");
  EXPECT_NE(error_of("{{ 'x'.center(100000000000) }}"), "");
  EXPECT_NE(error_of(std::string(100000, '(').insert(0, "{{").c_str()), "");
}

TEST(ChatTemplate, MemoryEnds) {
  const char* doubling =
      "{% set ns = namespace(s='0123456789') %}{% for i in range(40) %}"
      "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}";
  for (int i = 0; i < 3; ++i) {
    auto error = error_of(doubling);
    EXPECT_THAT(error, HasSubstr("of memory")) << error;
  }
  // Large variables are the caller's.
  std::string text(5 << 20, 'x');
  ChatTemplate uses("{{ (messages[0].content ~ 'y')|length }}");
  auto v = talk("[]");
  v.messages.push_back({{"role", "user"}, {"content", text}});
  EXPECT_EQ(uses.render(v, now), std::to_string(text.size() + 1));
}

TEST(ChatTemplate, NoFiles) {
  EXPECT_NE(error_of("{% include 'other' %}"), "");
  EXPECT_NE(error_of("{% extends '/etc/passwd' %}"), "");
  EXPECT_NE(error_of("{% import 'x' as y %}"), "");
}

TEST(ChatTemplate, AsPython) {
  EXPECT_EQ(
      render(
          "{{ x|tojson }} {{ x }}", R"({"x":{"b":[1.0,null,"é<"],"a":1e20}})"),
      R"({"b": [1.0, null, "é<"], "a": 1e+20} {'b': [1.0, None, 'é<'], )"
      R"('a': 1e+20})");
  EXPECT_EQ(render("{{ strftime_now('%d %B %Y') }}"), "03 February 2026");
  EXPECT_EQ(render("{{ 'a b c'.rsplit(' ', 1) }}"), "['a b', 'c']");
  EXPECT_EQ(render("{{ 'a=b=c'.rpartition('=') }}"), "('a=b', '=', 'c')");
  EXPECT_EQ(render("{{ '7'.zfill(3) }}{{ 'ab'.center(5, '*') }}"), "007**ab*");
  EXPECT_EQ(render("{{ 'one two three'|truncate(8, leeway=0) }}"), "one...");
  EXPECT_EQ(
      render("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}"), "1");
}

TEST(ChatTemplate, VariablesOfTheRequestCannotBeReplaced) {
  ChatTemplate t("{{ messages|length }}{{ x }}");
  auto v = talk(R"([{"role":"user","content":"a"}])");
  v.extra = Json::parse(R"({"x":5})");
  EXPECT_EQ(t.render(v, now), "15");
  for (const char* name :
       {"messages", "tools", "documents", "add_generation_prompt"}) {
    v.extra = Json::object();
    v.extra[name] = 1;
    EXPECT_THROW(t.render(v, now), Error) << name;
  }
}

TEST(ChatTemplate, Continued) {
  auto v = talk(R"([{"role":"user","content":"a"},
{"role":"assistant","content":"It is "}])");
  ChatTemplate kept("{% for m in messages %}<{{ m.content }}>{% endfor %}");
  EXPECT_EQ(kept.render_continued(v, now), "<a><It is ");
  ChatTemplate trimmed(
      "{% for m in messages %}<{{ m.content.strip() }}>{% endfor %}");
  EXPECT_EQ(trimmed.render_continued(v, now), "<a><It is");
  ChatTemplate dropped("nothing");
  EXPECT_THROW(dropped.render_continued(v, now), Error);
}

TEST(Messages, Normalised) {
  auto m = template_messages(
      Json::parse(R"([{"role":"assistant","content":null,"reasoning":"r"}])"));
  EXPECT_FALSE(m[0].contains("content"));
  EXPECT_EQ(m[0]["reasoning_content"], "r");
  EXPECT_EQ(m[0]["thinking"], "r");
  EXPECT_THROW(template_messages(Json::parse("{}")), Error);
  EXPECT_THROW(template_messages(Json::parse("[1]")), Error);
}

TEST(Messages, ToolArgumentsAndParts) {
  auto m = parsed_tool_arguments(Json::parse(
      R"([{"role":"assistant","content":null,"tool_calls":[
{"function":{"name":"f","arguments":"{\"x\": 1}"}},
{"function":{"name":"g","arguments":"not json"}}]}])"));
  EXPECT_EQ(m[0]["tool_calls"][0]["function"]["arguments"]["x"], 1);
  EXPECT_EQ(m[0]["tool_calls"][1]["function"]["arguments"], "not json");
  EXPECT_EQ(m[0]["content"], "");
  m = joined_text_parts(Json::parse(
      R"([{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
{"content":[{"type":"text","text":"a"},{"type":"image"}]}])"));
  EXPECT_EQ(m[0]["content"], "ab");
  EXPECT_TRUE(m[1]["content"].is_array());
}

TEST(Prompter, BosIsNotDoubled) {
  text::SmallVocabulary small;
  small.gguf.add_bos_token = true;
  small.gguf.chat_templates["default"] =
      "{{ bos_token }}{{ messages[0].content }}";
  Prompter with(tokenizer_from_gguf(small.gguf, "model.gguf"));
  auto v = talk(R"([{"role":"user","content":"hello"}])");
  EXPECT_THAT(with.encode_chat(v), ElementsAre(260, 259));
  EXPECT_THAT(with.encode_plain("hello"), ElementsAre(260, 259));
  EXPECT_THAT(with.encode_plain("<|start|>hello"), ElementsAre(260, 259));
  small.gguf.chat_templates["default"] = "{{ messages[0].content }}";
  Prompter without(tokenizer_from_gguf(small.gguf, "model.gguf"));
  EXPECT_THAT(without.encode_chat(v), ElementsAre(260, 259));
}

TEST(Prompter, ChoosesTemplates) {
  text::SmallVocabulary small;
  Prompter none(tokenizer_from_gguf(small.gguf, "model.gguf"));
  EXPECT_FALSE(none.has_template());
  EXPECT_THROW(none.render(talk("[]")), Error);
  small.gguf.chat_templates = {{"default", "D"}, {"tool_use", "T"}};
  Prompter both(tokenizer_from_gguf(small.gguf, "model.gguf"));
  auto v = talk("[]");
  EXPECT_EQ(both.render(v), "D");
  v.tools = Json::array();
  EXPECT_EQ(both.render(v), "D");
  v.tools.push_back(Json::object());
  EXPECT_EQ(both.render(v), "T");
  Prompter chatml(
      tokenizer_from_gguf(small.gguf, "model.gguf"), chatml_template);
  v = talk(R"([{"role":"user","content":"hello"}])");
  v.add_generation_prompt = true;
  EXPECT_EQ(
      chatml.render(v),
      "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
}

} // namespace
} // namespace mlxlm

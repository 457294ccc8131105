// DeepSeek V3 and R1: <｜tool▁call▁begin｜>function<｜tool▁sep｜>f, a fenced
// block of JSON, <｜tool▁call▁end｜>. V3.1:
// <｜tool▁call▁begin｜>f<｜tool▁sep｜>
// {...}<｜tool▁call▁end｜>. V3.2: <｜DSML｜invoke name="f"> with a
// <｜DSML｜parameter name="a" string="true"> for each argument.
#include "core/check.h"
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

constexpr std::string_view begin = "<｜tool▁call▁begin｜>",
                           end = "<｜tool▁call▁end｜>",
                           separator = "<｜tool▁sep｜>";
constexpr std::size_t longest_head = 512;

// V3: "function", the name and a fence; V3.1: the name alone.
std::optional<CallHead> head_in(std::string_view text, std::size_t from) {
  auto mark = text.find(separator, from);
  if (mark == text.npos) return {};
  auto name = strip(text.substr(from, mark - from));
  auto at = mark + separator.size();
  constexpr std::string_view fence = "```json";
  auto brace = text.find('{', at), fenced = text.find(fence, at);
  if (name == "function" && fenced != text.npos && fenced < brace) {
    name = strip(text.substr(at, fenced - at));
    at = fenced + fence.size();
  }
  at = skip_space(text, at);
  if (name.empty() || at >= text.size() || text[at] != '{') return {};
  return CallHead{std::string(name), "", at};
}

std::optional<CallHead> head(std::string_view text, std::size_t from) {
  auto at = text.find(begin, from);
  if (at == text.npos || at > from + longest_head) return {};
  at += begin.size();
  return head_in(text.substr(0, at + longest_head), at);
}

ParsedCall call(std::string_view text) {
  auto found = head_in(text, 0);
  if (!found) no_call("DeepSeek", text);
  auto arguments = json_prefix(text, found->arguments);
  if (!arguments) no_call("DeepSeek", text);
  return {found->name, std::move(arguments->value)};
}

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  std::vector<ParsedCall> calls;
  for (const auto& span : all_between(payload, begin, end))
    calls.push_back(call(span.text));
  if (calls.empty()) no_call("DeepSeek", payload);
  return calls;
}

std::string attribute(std::string_view tag, std::string_view name) {
  auto value = between(tag, fmt::format("{}=\"", name), "\"");
  return value ? std::string(value->text) : "";
}

std::vector<ParsedCall> parse_dsml(std::string_view payload, const Json&) {
  std::vector<ParsedCall> calls;
  for (const auto& invoke :
       all_between(payload, "<｜DSML｜invoke", "</｜DSML｜invoke>")) {
    auto close = std::min(invoke.text.find('>'), invoke.text.size());
    ParsedCall call{
        attribute(invoke.text.substr(0, close), "name"), Json::object()};
    if (call.name.empty()) no_call("DeepSeek V3.2", payload);
    for (const auto& parameter : all_between(
             invoke.text, "<｜DSML｜parameter", "</｜DSML｜parameter>")) {
      auto tag_end = parameter.text.find('>');
      if (tag_end == parameter.text.npos) continue;
      auto tag = parameter.text.substr(0, tag_end);
      auto text = parameter.text.substr(tag_end + 1);
      auto value = attribute(tag, "string") == "true" ? std::nullopt
                                                      : json_value(strip(text));
      call.arguments[attribute(tag, "name")] =
          value ? *value : Json(std::string(text));
    }
    calls.push_back(std::move(call));
  }
  if (calls.empty()) no_call("DeepSeek V3.2", payload);
  return calls;
}

constexpr CallSyntax v3_syntax = {
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    "\n```json\n",
    "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"};
constexpr CallSyntax v31_syntax = {
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"};
constexpr CallSyntax v32_syntax = {
    "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"",
    "\">\n",
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>"};

std::string v32_arguments(GrammarBuilder& builder, const Json& schema) {
  auto mark = [](std::string_view type) {
    return fmt::format("\" string=\"{}\">", type == "string");
  };
  return typed_arguments(
      builder,
      schema,
      {"<｜DSML｜parameter name=\"", "</｜DSML｜parameter>\n", mark});
}

} // namespace

const ToolFormat deepseek_v3 = {
    .name = "deepseek_v3",
    .open = "<｜tool▁calls▁begin｜>",
    .close = "<｜tool▁calls▁end｜>",
    .parse = parse,
    .head = head,
    .syntax = &v3_syntax};
const ToolFormat deepseek_v31 = {
    .name = "deepseek_v31",
    .open = "<｜tool▁calls▁begin｜>",
    .close = "<｜tool▁calls▁end｜>",
    .parse = parse,
    .head = head,
    .syntax = &v31_syntax};
const ToolFormat deepseek_v32 = {
    .name = "deepseek_v32",
    .open = "<｜DSML｜function_calls>",
    .close = "</｜DSML｜function_calls>",
    .parse = parse_dsml,
    .syntax = &v32_syntax,
    .arguments = v32_arguments};

} // namespace mlxlm::tools

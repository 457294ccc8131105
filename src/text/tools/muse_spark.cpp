// ATEM: <atem:invoke name="f"><atem:parameter name="a">1</atem:parameter>
// </atem:invoke>
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

constexpr std::string_view invoke = "<atem:invoke",
                           invoke_end = "</atem:invoke>",
                           parameter = "<atem:parameter",
                           parameter_end = "</atem:parameter>";

// The value of name="..." in the tag that begins at `at`, and where the tag
// ends.
struct Tag {
  std::string name;
  std::size_t end;
};
std::optional<Tag> tag_at(std::string_view text, std::size_t at) {
  auto close = text.find('>', at);
  if (close == text.npos) return {};
  auto attributes = text.substr(at, close - at);
  auto value = between(attributes, " name=\"", "\"");
  if (!value || value->text.empty()) return {};
  return Tag{std::string(value->text), close + 1};
}

// Where a call's body ends: at its end mark outside of parameters.
std::size_t body_end(std::string_view text, std::size_t at) {
  while (at < text.size() && !starts_with(text.substr(at), invoke_end)) {
    auto end = starts_with(text.substr(at), parameter)
        ? text.find(parameter_end, at)
        : text.npos;
    at = end == text.npos ? at + 1 : end + parameter_end.size();
  }
  return at;
}

// Without its schema: a text that looks like JSON is JSON.
Json read(std::string_view text, const Json*) {
  auto value = json_value(text);
  return value ? *value : Json(std::string(strip(text)));
}

Json parameters(std::string_view body) {
  Json out = Json::object();
  for (auto at = body.find(parameter); at != body.npos;
       at = body.find(parameter, at)) {
    auto tag = tag_at(body, at);
    auto end = tag ? body.find(parameter_end, tag->end) : body.npos;
    if (end == body.npos) break;
    auto text = body.substr(tag->end, end - tag->end);
    out[tag->name] = read(text, nullptr);
    at = end + parameter_end.size();
  }
  return out;
}

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  std::vector<ParsedCall> calls;
  for (auto at = payload.find(invoke); at != payload.npos;
       at = payload.find(invoke, at)) {
    auto tag = tag_at(payload, at);
    if (!tag) {
      at += invoke.size();
      continue;
    }
    auto end = body_end(payload, tag->end);
    calls.push_back(
        {tag->name, parameters(payload.substr(tag->end, end - tag->end))});
    at = std::min(end, payload.size());
  }
  if (calls.empty()) no_call("Muse Spark", payload);
  return calls;
}

constexpr CallSyntax muse_spark_syntax = {
    "<atem:function_calls>\n<atem:invoke name=\"",
    "\">\n",
    "</atem:invoke>\n</atem:function_calls>"};
std::string muse_spark_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder,
      schema,
      {"<atem:parameter name=\"", "\">", "</atem:parameter>\n", read, true});
}

} // namespace

const ToolFormat muse_spark = {
    .name = "muse_spark",
    .open = "<atem:function_calls>",
    .close = "</atem:function_calls>",
    .parse = parse,
    .syntax = &muse_spark_syntax,
    .arguments = muse_spark_arguments};

} // namespace mlxlm::tools

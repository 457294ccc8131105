// XML: <tool_call><function=f><parameter=a>1</parameter></function></tool_call>
#include <cmath>

#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// White space, a name, and one ">": the name, and the text from there on.
struct Named {
  std::string name;
  std::string_view rest;
};
std::optional<Named> named(std::string_view text) {
  auto begin = skip_space(text, 0), at = begin;
  while (at < text.size() && text[at] != '<' && text[at] != '>' &&
         skip_space(text, at) == at)
    ++at;
  if (at == begin) return {};
  Named out{std::string(text.substr(begin, at - begin)), text.substr(at)};
  if (starts_with(out.rest, ">")) out.rest.remove_prefix(1);
  return out;
}

bool begins_with_any(std::string_view text, auto... beginnings) {
  return (starts_with(text, beginnings) || ...);
}

bool is_any(std::string_view text, auto... words) {
  return ((text == words) || ...);
}

// By the schema's type, as Qwen's own parser does it.
Json converted(std::string_view text, const Json* schema) {
  if (lower(text) == "null") return nullptr;
  if (!schema || !schema->is_object() || schema->empty())
    return std::string(text);
  auto declared = schema->find("type");
  if (declared == schema->end()) {
    auto value = json_value(text);
    return value && value->is_structured() ? *value : Json(std::string(text));
  }
  auto type = lower(strip(
      declared->is_string() ? declared->get<std::string>() : declared->dump()));
  if (is_any(type, "string", "str", "text", "varchar", "char", "enum"))
    return std::string(text);
  bool integer =
      begins_with_any(type, "int", "uint", "long", "short", "unsigned");
  if (integer || begins_with_any(type, "num", "float")) {
    auto number = python_number(text);
    if (!number ||
        (number->is_number_float() && !std::isfinite(number->get<double>())))
      no_call("Qwen3-Coder", text);
    if (integer && number->is_number_float() &&
        std::trunc(number->get<double>()) != number->get<double>())
      no_call("Qwen3-Coder", text);
    return *number;
  }
  if (is_any(type, "boolean", "bool", "binary")) return lower(text) == "true";
  if (is_any(type, "object", "array", "arr") ||
      begins_with_any(type, "dict", "list"))
    if (auto value = json_value(text, false)) return *value;
  if (auto value = python_literal(text)) return *value;
  return std::string(text);
}

std::vector<ParsedCall> parse_either(
    std::string_view payload,
    const Json& tools) {
  if (starts_with(strip(payload), "{")) return json_calls(payload, "Qwen3.5");
  return xml_function_calls(payload, tools);
}

// Optional values have unions for schemas: without a type of their own.
Json read(std::string_view text, const Json* schema) {
  return fitted(converted(text, schema), text, schema);
}

constexpr CallSyntax qwen3_coder_syntax =
    {"<tool_call>\n<function=", ">\n", "</function>\n</tool_call>"};
std::string qwen3_coder_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder, schema, {"<parameter=", ">\n", "\n</parameter>\n", read});
}

constexpr CallSyntax seed_oss_syntax =
    {"<seed:tool_call>\n<function=", ">\n", "</function>\n</seed:tool_call>"};
std::string seed_oss_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder,
      schema,
      {"<parameter=", ">", "</parameter>\n", read, false, true});
}

} // namespace

std::vector<ParsedCall> xml_function_calls(
    std::string_view payload,
    const Json& tools) {
  constexpr std::string_view open = "<function=", close = "</function>";
  auto text = strip(payload);
  auto begin = text.find(open);
  if (begin == text.npos || !ends_with(text, close) ||
      text.size() < begin + open.size() + close.size())
    no_call("Qwen3-Coder", payload);
  text = text.substr(begin + open.size());
  text.remove_suffix(close.size());
  auto function = named(text);
  if (!function) no_call("Qwen3-Coder", payload);
  ParsedCall call{function->name, Json::object()};
  for (const auto& span :
       all_between(function->rest, "<parameter=", "</parameter>")) {
    auto parameter = named(span.text);
    if (!parameter) continue;
    auto value = parameter->rest;
    if (starts_with(value, "\n")) value.remove_prefix(1);
    if (ends_with(value, "\n")) value.remove_suffix(1);
    call.arguments[parameter->name] =
        read(value, argument_schema(tools, call.name, parameter->name));
  }
  return {call};
}

const ToolFormat qwen3_coder = {
    .name = "qwen3_coder",
    .open = "<tool_call>",
    .close = "</tool_call>",
    .parse = xml_function_calls,
    .syntax = &qwen3_coder_syntax,
    .arguments = qwen3_coder_arguments};
const ToolFormat qwen3_5 = {
    .name = "qwen3_5",
    .open = "<tool_call>",
    .close = "</tool_call>",
    .parse = parse_either,
    .syntax = &qwen3_coder_syntax,
    .arguments = qwen3_coder_arguments};
const ToolFormat seed_oss = {
    .name = "seed_oss",
    .open = "<seed:tool_call>",
    .close = "</seed:tool_call>",
    .parse = xml_function_calls,
    .syntax = &seed_oss_syntax,
    .arguments = seed_oss_arguments};

} // namespace mlxlm::tools

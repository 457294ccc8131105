#include "text/tools/grammar.h"

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm {
namespace {

const Json& function_of(const Json& tool) {
  auto inner = tool.find("function");
  return inner != tool.end() && inner->is_object() ? *inner : tool;
}

std::string name_of(const Json& tool) {
  if (!tool.is_object()) return "";
  const auto& function = function_of(tool);
  auto name = function.find("name");
  return name != function.end() && name->is_string() ? name->get<std::string>()
                                                     : "";
}

// An object's member that is an object or list itself, else `fallback`.
Json member(const Json& object, const char* name, Json fallback) {
  auto found = object.find(name);
  return found != object.end() && found->type() == fallback.type() ? *found
                                                                   : fallback;
}

// The terms of one call.
std::string call_terms(
    tools::GrammarBuilder& builder,
    const ToolFormat& format,
    const CallSyntax& syntax,
    const Json& tool) {
  auto schema =
      member(function_of(tool), "parameters", Json{{"type", "object"}});
  if (!schema.contains("type")) schema["type"] = "object";
  builder.begin(schema);
  return builder.literal(
             std::string(syntax.begin) + name_of(tool) +
             std::string(syntax.middle)) +
      (format.arguments ? format.arguments(builder, schema)
                        : builder.json(schema)) +
      builder.literal(syntax.end);
}

} // namespace

GrammarSource tool_call_grammar(
    const ToolFormat& format,
    const Json& tools,
    const Tokenizer& tokenizer,
    std::string_view name,
    bool several) {
  if (!format.syntax)
    fail(
        ErrorKind::request,
        "tool_choice",
        "expected a model whose calls can be forced, found one that writes them "
        "as {}",
        format.name);
  bool newest = format.needs.empty() || tokenizer.id_of(format.needs) >= 0;
  const auto& syntax = newest ? *format.syntax : *format.older;
  tools::GrammarBuilder builder(tokenizer);
  std::string calls;
  auto resolved = tools::resolved_tools(tools);
  for (const auto& tool : resolved) {
    auto found = name_of(tool);
    if (found.empty() || (!name.empty() && found != name)) continue;
    calls += fmt::format(
        "{}{}",
        calls.empty() ? "" : " |",
        call_terms(builder, format, syntax, tool));
  }
  if (calls.empty())
    fail(
        ErrorKind::request,
        "tool_choice",
        "expected the name of a tool, found \"{}\"",
        printable(name));
  auto lead = format.lead ? fmt::format(" ({} )?", format.lead(builder)) : "";
  return {
      GrammarKind::lark,
      fmt::format(
          "{}start:{} call{}\ncall:{}\n{}",
          format.lead ? whole_answer : "",
          lead,
          several ? "+" : "",
          calls,
          builder.rules())};
}

} // namespace mlxlm

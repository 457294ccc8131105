#include "text/tools/grammar.h"

#include "core/check.h"
#include "core/strings.h"
#include "text/json_schema.h"
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

// The terms of the arguments: as JSON, or as the format makes them of each way
// that the schema allows.
std::string argument_terms(
    tools::GrammarBuilder& builder,
    const ToolFormat& format,
    const Json& schema) {
  if (!format.arguments) return builder.json(schema);
  std::vector<std::string> ways;
  for (const auto& one : builder.shapes(schema).objects)
    ways.push_back(format.arguments(builder, one));
  if (ways.empty()) tools::cannot_force("no object", schema);
  return builder.either(ways);
}

[[noreturn]] void refuse(
    const std::string& tool,
    std::string_view place,
    std::string_view what) {
  fail(
      ErrorKind::request,
      "tools",
      "expected arguments of \"{}\" that can be forced, found {} ({})",
      printable(tool),
      what,
      printable(place, 300));
}

Json parameters_of_tool(const Json& tool) {
  return member(function_of(tool), "parameters", Json{{"type", "object"}});
}

// The terms of one call. `resolved`: the tool as its reader knows it.
std::string call_terms(
    tools::GrammarBuilder& builder,
    const ToolFormat& format,
    const CallSyntax& syntax,
    const Json& tool,
    const Json& resolved) {
  auto name = name_of(tool);
  auto schema = parameters_of_tool(tool);
  if (!schema.contains("type")) schema["type"] = "object";
  schema = without_one_of(std::move(schema));
  if (auto place = place_of_what_is_not_enforced(schema); !place.empty())
    refuse(name, place, "what grammars cannot say");
  builder.begin(schema, parameters_of_tool(resolved));
  try {
    return builder.literal(
               std::string(syntax.begin) + name + std::string(syntax.middle)) +
        argument_terms(builder, format, schema) + builder.literal(syntax.end) +
        (syntax.may_follow.empty()
             ? ""
             : builder.optional(builder.literal(syntax.may_follow)));
  } catch (const tools::CannotForce& cannot) {
    auto place = place_of(schema, cannot.schema);
    refuse(name, place.empty() ? cannot.schema.dump() : place, cannot.what);
  }
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
  for (std::size_t i = 0; i < (tools.is_array() ? tools.size() : 0); ++i) {
    auto found = name_of(tools[i]);
    if (found.empty() || (!name.empty() && found != name)) continue;
    calls += fmt::format(
        "{}{}",
        calls.empty() ? "" : " |",
        call_terms(builder, format, syntax, tools[i], resolved[i]));
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

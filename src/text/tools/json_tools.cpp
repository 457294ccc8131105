// Hermes: <tool_call>{"name": "f", "arguments": {...}}</tool_call>
#include "text/tools/formats.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// A JSON string at `at` that is whole: its value, and `at` behind it.
std::optional<std::string> string_at(std::string_view text, std::size_t& at) {
  if (at >= text.size() || text[at] != '"') return {};
  auto decoded = json_prefix(text, at);
  if (!decoded) return {};
  at = decoded->end;
  return decoded->value.get<std::string>();
}

bool take(std::string_view text, std::size_t& at, char c) {
  at = skip_space(text, at);
  if (at >= text.size() || text[at] != c) return false;
  at = skip_space(text, at + 1);
  return true;
}

ParsedCall json_call(const Json& object, std::string_view format) {
  const Json* from = &object;
  if (object.is_object())
    if (auto inner = object.find("function");
        inner != object.end() && inner->is_object())
      from = &*inner;
  ParsedCall call;
  if (!from->is_object()) no_call(format, object.dump());
  for (const char* key : {"name", "tool_name"})
    if (auto name = from->find(key); name != from->end() && name->is_string())
      call.name = name->get<std::string>();
  if (call.name.empty())
    no_call(
        format, object.dump(-1, ' ', false, Json::error_handler_t::replace));
  for (const char* key : {"arguments", "parameters"})
    if (auto found = from->find(key);
        found != from->end() && call.arguments.is_null())
      call.arguments = *found;
  for (const char* key : {"id", "tool_call_id"})
    if (auto id = object.find(key); id != object.end() && id->is_string())
      call.id = id->get<std::string>();
  return call;
}

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  return json_calls(payload, "Hermes");
}

constexpr CallSyntax syntax =
    {"<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>"};

} // namespace

std::vector<ParsedCall> json_calls(
    std::string_view text,
    std::string_view format) {
  auto value = json_value(strip(text));
  if (!value) no_call(format, text);
  std::vector<ParsedCall> calls;
  if (!value->is_array()) return {json_call(*value, format)};
  for (const auto& one : *value)
    calls.push_back(json_call(one, format));
  if (calls.empty()) no_call(format, text);
  return calls;
}

std::optional<CallHead> json_head(std::string_view text, std::size_t from) {
  auto at = from;
  if (!take(text, at, '{')) return {};
  if (string_at(text, at) != "name" || !take(text, at, ':')) return {};
  auto name = string_at(text, at);
  if (!name || name->empty() || !take(text, at, ',')) return {};
  auto key = string_at(text, at);
  if (key != "arguments" && key != "parameters") return {};
  if (!take(text, at, ':') || at >= text.size() || text[at] != '{') return {};
  return CallHead{*name, "", at};
}

const ToolFormat json_tools = {
    .name = "json_tools",
    .open = "<tool_call>",
    .close = "</tool_call>",
    .parse = parse,
    .head = [](std::string_view text,
               std::size_t from) -> std::optional<CallHead> {
      return from == 0 ? json_head(text, 0) : std::nullopt;
    },
    .bare = ToolFormat::Bare::listed,
    .syntax = &syntax};

} // namespace mlxlm::tools

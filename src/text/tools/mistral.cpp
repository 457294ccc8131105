// Mistral: [TOOL_CALLS]f[ARGS]{...}, perhaps [CALL_ID]id before [ARGS]; older
// models [TOOL_CALLS][{"name": "f", "arguments": {...}}]. To the end.
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

constexpr std::string_view args = "[ARGS]", call_id = "[CALL_ID]";
constexpr std::size_t longest_head = 512;

// A head that begins exactly at `at`.
std::optional<CallHead> head_at(std::string_view text, std::size_t at) {
  CallHead head;
  auto size = word_length(text, at, "-.");
  if (size == 0) return {};
  head.name = text.substr(at, size);
  at = skip_space(text, at + size);
  if (starts_with(text.substr(at), call_id)) {
    at = skip_space(text, at + call_id.size());
    size = word_length(text, at, "-.");
    head.id = text.substr(at, size);
    at = skip_space(text, at + size);
  }
  if (!starts_with(text.substr(at), args)) return {};
  head.arguments = skip_space(text, at + args.size());
  return head;
}

// The first head from `from` on, wherever it begins.
std::optional<CallHead> find_head(std::string_view text, std::size_t from) {
  auto mark = text.find(args, from);
  for (auto at = from; at < text.size() && at < mark;) {
    auto size = word_length(text, at, "-.");
    if (size > 0)
      if (auto head = head_at(text, at)) return head;
    at += std::max<std::size_t>(size, 1);
  }
  return {};
}

std::optional<CallHead> head(std::string_view text, std::size_t from) {
  if (text.size() > from + longest_head)
    text = text.substr(0, from + longest_head);
  if (from == 0 && starts_with(strip(text), "[")) return {}; // a JSON list
  auto found = find_head(text, from);
  if (!found || found->arguments >= text.size() ||
      text[found->arguments] != '{')
    return {};
  return found;
}

// The list of older models; nothing when the text is no JSON list.
std::vector<ParsedCall> list_calls(std::string_view text) {
  auto list = json_value(text);
  std::vector<ParsedCall> calls;
  if (!list || !list->is_array()) return calls;
  for (const auto& one : *list) {
    ParsedCall call;
    if (!one.is_object() || !one.contains("name") || !one["name"].is_string())
      no_call("Mistral", text);
    call.name = one["name"].get<std::string>();
    call.arguments = one.value("arguments", Json::object());
    if (call.arguments.is_string())
      call.arguments =
          json_value(call.arguments.get<std::string>()).value_or(Json());
    if (!call.arguments.is_object()) no_call("Mistral", text);
    if (one.contains("id") && one["id"].is_string())
      call.id = one["id"].get<std::string>();
    calls.push_back(std::move(call));
  }
  return calls;
}

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  auto calls = list_calls(payload);
  std::size_t at = 0;
  while (calls.empty() || at > 0) {
    auto found = find_head(payload, at);
    if (!found) break;
    auto arguments = json_prefix(payload, found->arguments);
    if (!arguments) no_call("Mistral", payload);
    calls.push_back({found->name, std::move(arguments->value), found->id});
    at = arguments->end;
  }
  if (calls.empty()) no_call("Mistral", payload);
  return calls;
}

constexpr CallSyntax syntax = {"[TOOL_CALLS]", "[ARGS]", ""};
constexpr CallSyntax older =
    {"[TOOL_CALLS] [{\"name\": \"", "\", \"arguments\": ", "}]"};

} // namespace

const ToolFormat mistral = {
    .name = "mistral",
    .open = "[TOOL_CALLS]",
    .close = "",
    .parse = parse,
    .head = head,
    .syntax = &syntax,
    .needs = args,
    .older = &older,
    .id_length = 9};

} // namespace mlxlm::tools

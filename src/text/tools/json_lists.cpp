// Formats that are JSON, one call or a list of them, between marks of their
// own.
#include "text/tools/formats.h"
#include "text/tools/values.h"

#include <string>

namespace mlxlm::tools {
namespace {

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  return json_calls(payload, "this model");
}

// Command sometimes writes escapes that JSON does not have, such as "\|".
std::vector<ParsedCall> parse_cohere(std::string_view payload, const Json&) {
  std::string text;
  for (std::size_t i = 0; i < payload.size(); ++i)
    if (payload[i] != '\\' || i + 1 == payload.size() || payload[i + 1] != '|')
      text += payload[i];
  return json_calls(text, "Command");
}

// InternLM: <|plugin|> comes before the object.
std::vector<ParsedCall> parse_internlm(std::string_view payload, const Json&) {
  constexpr std::string_view plugin = "<|plugin|>";
  if (auto at = payload.find(plugin); at != payload.npos)
    payload.remove_prefix(at + plugin.size());
  return json_calls(payload, "InternLM");
}

// The heads of calls in a list: the first behind "[", later ones behind ",".
std::optional<CallHead> head(std::string_view text, std::size_t from) {
  auto at = skip_space(text, from);
  if (at >= text.size()) return {};
  if (from > 0 && text[at] == '}') at = skip_space(text, at + 1);
  if (at >= text.size() || text[at] != (from == 0 ? '[' : ',')) return {};
  return json_head(text, at + 1);
}

constexpr CallSyntax granite_syntax =
    {"<|tool_call|>[{\"name\": \"", "\", \"arguments\": ", "}]"};
constexpr CallSyntax phi4_syntax =
    {"<|tool_call|>[{\"name\": \"", "\", \"arguments\": ", "}]<|/tool_call|>"};
constexpr CallSyntax nemotron_syntax =
    {"<TOOLCALL>[{\"name\": \"", "\", \"arguments\": ", "}]</TOOLCALL>"};
constexpr CallSyntax hunyuan_syntax =
    {"<tool_calls>[{\"name\": \"", "\", \"arguments\": ", "}]</tool_calls>"};
constexpr CallSyntax cohere_syntax = {
    "<|START_ACTION|>[{\"tool_call_id\": \"0\", \"tool_name\": \"",
    "\", \"parameters\": ",
    "}]<|END_ACTION|>"};
constexpr CallSyntax internlm_syntax = {
    "<|action_start|><|plugin|>{\"name\": \"",
    "\", \"parameters\": ",
    "}<|action_end|>"};

} // namespace

const ToolFormat cohere = {
    .name = "cohere",
    .open = "<|START_ACTION|>",
    .close = "<|END_ACTION|>",
    .parse = parse_cohere,
    .syntax = &cohere_syntax};
const ToolFormat granite = {
    .name = "granite",
    .open = "<|tool_call|>",
    .close = "",
    .parse = parse,
    .head = head,
    .syntax = &granite_syntax};
const ToolFormat phi4 = {
    .name = "phi4",
    .open = "<|tool_call|>",
    .close = "<|/tool_call|>",
    .parse = parse,
    .head = head,
    .syntax = &phi4_syntax};
const ToolFormat nemotron = {
    .name = "nemotron",
    .open = "<TOOLCALL>",
    .close = "</TOOLCALL>",
    .parse = parse,
    .head = head,
    .syntax = &nemotron_syntax};
const ToolFormat internlm = {
    .name = "internlm",
    .open = "<|action_start|>",
    .close = "<|action_end|>",
    .parse = parse_internlm,
    .syntax = &internlm_syntax};
const ToolFormat hunyuan = {
    .name = "hunyuan",
    .open = "<tool_calls>",
    .close = "</tool_calls>",
    .parse = parse,
    .head = head,
    .syntax = &hunyuan_syntax};

} // namespace mlxlm::tools

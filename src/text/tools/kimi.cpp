// Kimi K2: a section of <|tool_call_begin|>functions.f:0
//   <|tool_call_argument_begin|>{...}<|tool_call_end|>
// Kimi K3: <|open|>call tool="f" index="1"<|sep|> with an
//   <|open|>argument key="a" type="string"<|sep|> for each argument.
#include "core/check.h"
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

constexpr std::string_view call_begin = "<|tool_call_begin|>",
                           call_end = "<|tool_call_end|>",
                           arguments_begin = "<|tool_call_argument_begin|>";
constexpr std::size_t longest_head = 512;

// "functions.f:0" before the arguments' mark: an id that has the name.
std::optional<CallHead> k2_head_at(std::string_view text, std::size_t from) {
  auto mark = text.find(arguments_begin, from);
  if (mark == text.npos) return {};
  auto id = strip(text.substr(from, mark - from));
  auto colon = id.rfind(':');
  constexpr std::string_view prefix = "functions.";
  auto name = id.substr(0, colon);
  if (starts_with(name, prefix)) name.remove_prefix(prefix.size());
  if (colon == id.npos || colon + 1 == id.size() || name.empty() ||
      id.find_first_not_of("0123456789", colon + 1) != id.npos)
    return {};
  return CallHead{
      std::string(name),
      std::string(id),
      skip_space(text, mark + arguments_begin.size())};
}

std::optional<CallHead> k2_head(std::string_view text, std::size_t from) {
  auto begin = text.find(call_begin, from);
  if (begin == text.npos || begin > from + longest_head) return {};
  begin += call_begin.size();
  auto head = k2_head_at(text.substr(0, begin + longest_head), begin);
  if (!head || head->arguments >= text.size() || text[head->arguments] != '{')
    return {};
  return head;
}

ParsedCall k2_call(std::string_view text) {
  auto head = k2_head_at(text, 0);
  if (!head) no_call("Kimi K2", text);
  return {head->name, guessed(text.substr(head->arguments)), head->id};
}

std::vector<ParsedCall> parse_k2(std::string_view payload, const Json&) {
  std::vector<ParsedCall> calls;
  for (const auto& span : all_between(payload, call_begin, call_end))
    calls.push_back(k2_call(span.text));
  if (calls.empty()) calls.push_back(k2_call(payload));
  return calls;
}

constexpr CallSyntax k2_syntax = {
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.",
    ":0<|tool_call_argument_begin|>",
    "<|tool_call_end|><|tool_calls_section_end|>"};

// An element of K3's markup: <|open|>NAME
// attributes<|sep|>body<|close|>NAME<|sep|>
struct Element {
  std::string_view attributes, body;
  std::size_t end;
};
std::optional<Element> element(
    std::string_view text,
    std::string_view name,
    std::size_t from) {
  constexpr std::string_view sep = "<|sep|>";
  auto open = fmt::format("<|open|>{}", name);
  auto close = fmt::format("<|close|>{}<|sep|>", name);
  auto head = between(text, open, sep, from);
  if (!head) return {};
  auto end = text.find(close, head->end);
  if (end == text.npos) return {};
  return Element{
      head->text, text.substr(head->end, end - head->end), end + close.size()};
}

std::optional<std::string> attribute(
    std::string_view attributes,
    std::string_view name) {
  std::optional<std::string> value;
  for (std::size_t at = 0; at < attributes.size();) {
    auto size = word_length(attributes, at);
    if (size == 0 || !starts_with(attributes.substr(at + size), "=\"")) {
      at += std::max<std::size_t>(size, 1);
      continue;
    }
    auto from = at + size + 2;
    auto end = attributes.find('"', from);
    if (end == attributes.npos) break;
    if (attributes.substr(at, size) == name)
      value = attributes.substr(from, end - from);
    at = end + 1;
  }
  if (!value) return {};
  for (auto [code, character] : {std::pair("&quot;", "\""), {"&amp;", "&"}})
    for (std::size_t at = 0; (at = value->find(code, at)) != value->npos; ++at)
      value->replace(at, std::string_view(code).size(), character);
  return value;
}

std::optional<ParsedCall> k3_call(const Element& call) {
  auto name = attribute(call.attributes, "tool");
  if (!name || name->empty()) return {};
  ParsedCall out{*name, Json::object()};
  if (auto whole = element(call.body, "json", 0)) {
    auto value = json_value(whole->body);
    if (!value || !value->is_object()) return {};
    out.arguments = std::move(*value);
    return out;
  }
  std::size_t from = 0;
  while (auto argument = element(call.body, "argument", from)) {
    from = argument->end;
    auto key = attribute(argument->attributes, "key");
    if (!key) return {};
    auto type = attribute(argument->attributes, "type").value_or("string");
    auto value = type == "string" ? std::nullopt : json_value(argument->body);
    out.arguments[*key] = value ? *value : Json(std::string(argument->body));
  }
  return out;
}

std::vector<ParsedCall> parse_k3(std::string_view payload, const Json&) {
  std::vector<ParsedCall> calls;
  std::size_t from = 0;
  while (auto call = element(payload, "call", from)) {
    from = call->end;
    if (auto parsed = k3_call(*call)) calls.push_back(std::move(*parsed));
  }
  if (calls.empty()) no_call("Kimi K3", payload);
  return calls;
}

constexpr CallSyntax k3_syntax = {
    "<|open|>tools<|sep|><|open|>call tool=\"",
    "\" index=\"1\"<|sep|>",
    "<|close|>call<|sep|><|close|>tools<|sep|>"};

std::string k3_arguments(GrammarBuilder& builder, const Json& schema) {
  auto mark = [](std::string_view type) {
    return fmt::format("\" type=\"{}\"<|sep|>", type);
  };
  return typed_arguments(
      builder,
      schema,
      {"<|open|>argument key=\"", "<|close|>argument<|sep|>", mark});
}

} // namespace

const ToolFormat kimi_k2 = {
    .name = "kimi_k2",
    .open = "<|tool_calls_section_begin|>",
    .close = "<|tool_calls_section_end|>",
    .parse = parse_k2,
    .head = k2_head,
    .syntax = &k2_syntax};
const ToolFormat kimi_k3 = {
    .name = "kimi_k3",
    .open = "<|open|>tools<|sep|>",
    .close = "<|close|>tools<|sep|>",
    .parse = parse_k3,
    .syntax = &k3_syntax,
    .arguments = k3_arguments};

} // namespace mlxlm::tools

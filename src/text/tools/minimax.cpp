// MiniMax M2: <invoke name="f"><parameter name="a">1</parameter></invoke>
// MiniCPM 5:  <function name="f"><param name="a">1</param></function>, values
//             perhaps in CDATA, nothing around the calls.
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// `NAME>rest`: both parts; nothing when there is no ">".
std::optional<std::pair<std::string, std::string_view>> name_and_rest(
    std::string_view text) {
  auto close = text.find('>');
  if (close == 0 || close == text.npos) return {};
  return std::pair(unquoted(text.substr(0, close)), text.substr(close + 1));
}

Json read(std::string_view text, const Json* schema) {
  return fitted(typed_value(strip(text), schema), text, schema);
}

std::vector<ParsedCall> parse_m2(std::string_view payload, const Json& tools) {
  std::vector<ParsedCall> calls;
  for (const auto& span : all_between(payload, "<invoke name=", "</invoke>")) {
    auto close = std::min(span.text.find('>'), span.text.size());
    if (close == 0) continue;
    ParsedCall call{unquoted(span.text.substr(0, close)), Json::object()};
    for (const auto& parameter :
         all_between(span.text, "<parameter name=", "</parameter>")) {
      auto parts = name_and_rest(parameter.text);
      if (!parts) continue;
      const auto& [name, text] = *parts;
      call.arguments[name] =
          read(text, argument_schema(tools, call.name, name));
    }
    calls.push_back(std::move(call));
  }
  if (calls.empty()) no_call("MiniMax M2", payload);
  return calls;
}

// A name in quotes or without, white space and ">" at `at`; `at` moves behind.
std::optional<std::string> quoted_name(std::string_view text, std::size_t& at) {
  if (at >= text.size()) return {};
  auto end = at;
  if (text[at] == '"' || text[at] == '\'') {
    end = text.find(text[at], at + 1);
    if (end == text.npos) return {};
    ++end;
  } else {
    while (end < text.size() && skip_space(text, end) == end &&
           std::string_view("\"'<>").find(text[end]) == std::string_view::npos)
      ++end;
  }
  auto close = skip_space(text, end);
  if (end == at || close >= text.size() || text[close] != '>') return {};
  auto name = unquoted(text.substr(at, end - at));
  at = close + 1;
  return name;
}

// "name" and "=" with white space around at `at`.
bool take_name_equals(std::string_view text, std::size_t& at) {
  auto next = at;
  if (!starts_with(text.substr(next), "name")) return false;
  next = skip_space(text, next + 4);
  if (next >= text.size() || text[next] != '=') return false;
  at = skip_space(text, next + 1);
  return true;
}

// The beginning of a function at `at`: "<function name=" is left out where it
// was the mark before the payload.
std::optional<std::string> function_name(
    std::string_view text,
    std::size_t& at) {
  constexpr std::string_view open = "<function";
  auto next = at;
  if (starts_with(text.substr(next), open)) {
    auto inner = skip_space(text, next + open.size());
    if (inner > next + open.size()) next = inner;
  }
  take_name_equals(text, next);
  auto name = quoted_name(text, next);
  if (!name) {
    next = at;
    name = quoted_name(text, next);
  }
  if (name) at = next;
  return name;
}

std::string_view without_cdata(std::string_view text) {
  auto stripped = strip(text);
  constexpr std::string_view open = "<![CDATA[", close = "]]>";
  if (starts_with(stripped, open) && ends_with(stripped, close) &&
      stripped.size() >= open.size() + close.size())
    return stripped.substr(
        open.size(), stripped.size() - open.size() - close.size());
  return stripped;
}

Json param_values(
    std::string_view body,
    const std::string& function,
    const Json& tools) {
  constexpr std::string_view open = "<param", close = "</param>";
  Json out = Json::object();
  for (auto at = body.find(open); at != body.npos; at = body.find(open, at)) {
    at += open.size();
    auto next = skip_space(body, at);
    if (next == at || !take_name_equals(body, next)) continue;
    auto name = quoted_name(body, next);
    auto end = body.find(close, next);
    if (!name || end == body.npos) continue;
    out[*name] = read(
        without_cdata(body.substr(next, end - next)),
        argument_schema(tools, function, *name));
    at = end + close.size();
  }
  return out;
}

std::vector<ParsedCall> parse_minicpm5(
    std::string_view payload,
    const Json& tools) {
  constexpr std::string_view close = "</function>";
  std::vector<ParsedCall> calls;
  for (std::size_t at = 0; at < payload.size();) {
    auto begin = at;
    auto name = function_name(payload, begin);
    if (!name) {
      ++at;
      continue;
    }
    auto end = std::min(payload.find(close, begin), payload.size());
    auto body = payload.substr(begin, end - begin);
    calls.push_back({*name, param_values(body, *name, tools)});
    at = std::min(end + close.size(), payload.size());
  }
  if (calls.empty()) no_call("MiniCPM", payload);
  return calls;
}

constexpr CallSyntax minimax_m2_syntax = {
    "<minimax:tool_call>\n<invoke name=\"",
    "\">\n",
    "</invoke>\n</minimax:tool_call>"};
std::string minimax_m2_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder,
      schema,
      {"<parameter name=\"", "\">", "</parameter>\n", read, true});
}

constexpr CallSyntax minicpm5_syntax = {
    "<function name=\"",
    "\">",
    "</function>"};
std::string minicpm5_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder, schema, {"<param name=\"", "\">", "</param>", read, true});
}

} // namespace

const ToolFormat minimax_m2 = {
    .name = "minimax_m2",
    .open = "<minimax:tool_call>",
    .close = "</minimax:tool_call>",
    .parse = parse_m2,
    .syntax = &minimax_m2_syntax,
    .arguments = minimax_m2_arguments};
const ToolFormat minicpm5 = {
    .name = "minicpm5",
    .open = "<function name=",
    .close = "</function>",
    .parse = parse_minicpm5,
    .syntax = &minicpm5_syntax,
    .arguments = minicpm5_arguments};

} // namespace mlxlm::tools

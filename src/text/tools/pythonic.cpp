// LFM2: <|tool_call_start|>[f(a='x', b=2)]<|tool_call_end|>
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/python_literal.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// For what is no valid Python: keys, "=" and a value up to the next comma.
Json loose_arguments(std::string_view text) {
  Json out = Json::object();
  std::size_t at = 0;
  // Past a separator behind `end`; nothing when there is none.
  auto closed = [&](std::size_t end) -> std::optional<std::size_t> {
    if (end == text.size()) return end;
    if (text[end] != ',') return {};
    return skip_space(text, end + 1);
  };
  while (at < text.size()) {
    auto size = word_length(text, at);
    if (size == 0 || at + size >= text.size() || text[at + size] != '=') {
      at += size + 1;
      continue;
    }
    auto key = std::string(text.substr(at, size));
    auto from = at + size + 1;
    std::optional<std::size_t> next;
    std::string_view value;
    if (from < text.size() && (text[from] == '"' || text[from] == '\'')) {
      auto end = text.find(text[from], from + 1);
      if (end != text.npos && (next = closed(end + 1)))
        value = text.substr(from + 1, end - from - 1);
    }
    if (!next) {
      auto end = std::min(text.find(',', from), text.size());
      next = closed(end);
      value = strip(text.substr(from, end - from));
    }
    auto literal = python_literal(value);
    out[key] = literal ? *literal : Json(std::string(value));
    at = *next;
  }
  return out;
}

std::optional<ParsedCall> loose_call(std::string_view text) {
  for (auto at = text.find('['); at != text.npos; at = text.find('[', at + 1)) {
    auto size = word_length(text, at + 1, ".");
    auto open = at + 1 + size;
    if (size == 0 || open >= text.size() || text[open] != '(') continue;
    auto close = text.find(")]", open);
    if (close == text.npos) return {};
    return ParsedCall{
        std::string(text.substr(at + 1, size)),
        loose_arguments(text.substr(open + 1, close - open - 1))};
  }
  return {};
}

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  auto begin = payload.find('['), end = payload.rfind(']');
  if (begin != payload.npos && end != payload.npos && end > begin)
    if (auto calls = python_calls(payload.substr(begin, end + 1 - begin)))
      return *calls;
  auto call = loose_call(payload);
  if (!call) no_call("LFM2", payload);
  return {*call};
}

constexpr CallSyntax syntax = {
    "<|tool_call_start|>[",
    "(",
    ")]<|tool_call_end|>"};

std::string arguments(GrammarBuilder& builder, const Json& schema) {
  Spelling python{
      .yes = "True",
      .no = "False",
      .none = "None",
      .comma = ", ",
      .colon = ": ",
      .quoted_keys = true};
  return spelled_members(builder, schema, python, "=");
}

} // namespace

const ToolFormat pythonic = {
    .name = "pythonic",
    .open = "<|tool_call_start|>",
    .close = "<|tool_call_end|>",
    .parse = parse,
    .syntax = &syntax,
    .arguments = arguments};

} // namespace mlxlm::tools

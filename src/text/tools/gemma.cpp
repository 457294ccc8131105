// Gemma 4:       <|tool_call>call:f{a:<|"|>x<|"|>,b:2}<tool_call|>
// FunctionGemma: <start_function_call>call:f{a:<escape>x<escape>,b:2}
//                <end_function_call>
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// Where the braces that begin at `at` close, strings between `quote`s left out;
// nothing when they do not.
std::optional<std::size_t> balanced_end(
    std::string_view text,
    std::size_t at,
    std::string_view quote,
    bool json_strings) {
  int depth = 0;
  while (at < text.size()) {
    if (starts_with(text.substr(at), quote)) {
      at = text.find(quote, at + quote.size());
      if (at == text.npos) return {};
      at += quote.size();
      continue;
    }
    if (text[at] == '"' && json_strings)
      if (auto string = json_prefix(text, at)) {
        at = string->end;
        continue;
      }
    char c = text[at++];
    if (c == '{') ++depth;
    if (c == '}' && --depth == 0) return at;
  }
  return {};
}

// {a:<q>x<q>,b:[1]} as JSON text: strings quoted, bare keys quoted.
std::string as_json(std::string_view text, std::string_view quote) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (starts_with(text.substr(at), quote)) {
      auto from = at + quote.size();
      auto end = std::min(text.find(quote, from), text.size());
      out += Json(text.substr(from, end - from))
                 .dump(-1, ' ', false, Json::error_handler_t::replace);
      at = std::min(end + quote.size(), text.size());
      continue;
    }
    char c = text[at++];
    out += c;
    if (c != '{' && c != ',') continue;
    auto size = word_length(text, at);
    if (size > 0 && at + size < text.size() && text[at + size] == ':') {
      out += '"' + std::string(text.substr(at, size)) + '"';
      at += size;
    }
  }
  return out;
}

// "call:f{...}" from `from` on, whole.
struct Found {
  std::string_view name, arguments;
  std::size_t end;
};
std::optional<Found> find_call(
    std::string_view text,
    std::size_t from,
    std::string_view quote,
    bool json_strings = false) {
  constexpr std::string_view mark = "call:";
  for (auto at = text.find(mark, from); at != text.npos;
       at = text.find(mark, at + 1)) {
    auto begin = at + mark.size();
    auto size = word_length(text, begin, "-.");
    auto open = begin + size;
    if (size == 0 || open >= text.size() || text[open] != '{') continue;
    if (auto end = balanced_end(text, open, quote, json_strings))
      return Found{
          text.substr(begin, size), text.substr(open, *end - open), *end};
  }
  return {};
}

std::vector<ParsedCall> parse_gemma4(std::string_view payload, const Json&) {
  constexpr std::string_view quote = "<|\"|>";
  std::vector<ParsedCall> calls;
  std::size_t from = 0;
  while (auto found = find_call(payload, from, quote)) {
    auto arguments = json_value(as_json(found->arguments, quote));
    if (!arguments) no_call("Gemma 4", payload);
    calls.push_back({std::string(found->name), std::move(*arguments)});
    from = found->end;
  }
  if (calls.empty()) no_call("Gemma 4", payload);
  return calls;
}

constexpr std::string_view escape = "<escape>";

// A value that is no string goes up to a comma outside of brackets and strings
// of either kind.
std::size_t value_end(std::string_view text) {
  int depth = 0;
  bool string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (!string && starts_with(text.substr(at), escape)) {
      auto end = text.find(escape, at + escape.size());
      if (end == text.npos) return text.size();
      at = end + escape.size() - 1;
      continue;
    }
    if (string) {
      if (c == '\\') ++at;
      string = c != '"';
    } else if (c == '"' && depth > 0) {
      string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ',' && depth <= 0) {
      return at;
    }
  }
  return text.size();
}

std::vector<ParsedCall> parse_function_gemma(
    std::string_view payload,
    const Json&) {
  auto found = find_call(payload, 0, escape, true);
  if (!found) no_call("FunctionGemma", payload);
  ParsedCall call{std::string(found->name), Json::object()};
  auto left = found->arguments.substr(1, found->arguments.size() - 2);
  while (!left.empty()) {
    auto colon = left.find(':');
    if (colon == left.npos) no_call("FunctionGemma", payload);
    std::string key(left.substr(0, colon));
    left.remove_prefix(colon + 1);
    if (starts_with(left, escape)) {
      auto end = left.find(escape, escape.size());
      if (end == left.npos) no_call("FunctionGemma", payload);
      call.arguments[key] = left.substr(escape.size(), end - escape.size());
      left.remove_prefix(std::min(end + escape.size() + 1, left.size()));
      continue;
    }
    auto end = value_end(left);
    auto value = left.substr(0, end);
    auto plain = json_value(value);
    if (!plain) plain = json_value(as_json(value, escape));
    call.arguments[key] = plain ? *plain : Json(std::string(value));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return {call};
}

constexpr CallSyntax gemma4_syntax =
    {"<|tool_call>call:", "{", "}<tool_call|>"};
constexpr CallSyntax function_gemma_syntax =
    {"<start_function_call>call:", "{", "}<end_function_call>"};

std::string gemma4_arguments(GrammarBuilder& builder, const Json& schema) {
  return spelled_members(builder, schema, {.quote = "<|\"|>"}, ":");
}

std::string function_gemma_arguments(
    GrammarBuilder& builder,
    const Json& schema) {
  return spelled_members(builder, schema, {.quote = escape}, ":");
}

} // namespace

const ToolFormat gemma4 = {
    .name = "gemma4",
    .open = "<|tool_call>",
    .close = "<tool_call|>",
    .parse = parse_gemma4,
    .syntax = &gemma4_syntax,
    .arguments = gemma4_arguments};
const ToolFormat function_gemma = {
    .name = "function_gemma",
    .open = "<start_function_call>",
    .close = "<end_function_call>",
    .parse = parse_function_gemma,
    .syntax = &function_gemma_syntax,
    .arguments = function_gemma_arguments};

} // namespace mlxlm::tools

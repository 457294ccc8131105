// What the formats share: text helpers with Python's meaning, and values that
// were written without quotes, typed by the tool's schema.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace mlxlm::tools {

// Without white space at both ends (Unicode's, as Python's strip).
std::string_view strip(std::string_view text);
std::string lower(std::string_view text);
// [A-Za-z0-9_] and everything beyond ASCII.
bool is_word(char c);
// Length of the run of word characters, and of those in `more`, from `from` on.
std::size_t word_length(
    std::string_view text,
    std::size_t from,
    std::string_view more = {});
std::size_t skip_space(std::string_view text, std::size_t from);
// The text of "..." or '...', else the text itself stripped.
std::string unquoted(std::string_view text);

// The texts between `open` and the next `close`, in order.
struct Span {
  std::string_view text;
  std::size_t begin = 0, end = 0; // with the marks
};
std::optional<Span> between(
    std::string_view text,
    std::string_view open,
    std::string_view close,
    std::size_t from = 0);
std::vector<Span> all_between(
    std::string_view text,
    std::string_view open,
    std::string_view close);

// Python's json.loads. Not strict: control characters in strings are allowed.
std::optional<Json> json_value(std::string_view text, bool strict = true);
// The JSON value at `from` (no white space before it) and where it ends.
struct Decoded {
  Json value;
  std::size_t end;
};
std::optional<Decoded> json_prefix(std::string_view text, std::size_t from);
// ast.literal_eval.
std::optional<Json> python_literal(std::string_view text);
// JSON, else a Python literal, else the text.
Json guessed(std::string_view text);
// int(text) and float(text); a float without fraction is an integer here.
std::optional<Json> python_int(std::string_view text);
std::optional<Json> python_number(std::string_view text);

// The schema of one argument, or null. `tools` as OpenAI has them, or null.
const Json* argument_schema(
    const Json& tools,
    std::string_view function,
    std::string_view argument);
bool is_listed(const Json& tools, std::string_view function);
// The schema's "type" is "string".
bool is_string_argument(
    const Json& tools,
    std::string_view function,
    std::string_view argument);
// `value`, which was read from `text`, unless it is a text and the schema
// allows none: then what JSON makes of it, if that is of a type it does allow.
Json fitted(Json value, std::string_view text, const Json* schema);
// The request's tools with references of arguments followed, so that the type
// of an argument stands in its schema.
Json resolved_tools(Json tools);
// A value by all types its schema allows, most specific first; a string when
// there is no schema (minimax_m2, minicpm5).
Json typed_value(std::string_view text, const Json* schema);

// Throws Error(text): the payload is no call.
[[noreturn]] void no_call(std::string_view format, std::string_view payload);

} // namespace mlxlm::tools

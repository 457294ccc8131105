#include "text/tools/values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/json_scanner.h"

namespace mlxlm::tools {
namespace {

// Bytes of the white space character at the beginning of `text`, or 0.
std::size_t space_at(std::string_view text) {
  if (text.empty()) return 0;
  auto c = static_cast<unsigned char>(text[0]);
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
  static constexpr std::array<std::string_view, 19> wide = {
      "\u0085",
      "\u00A0",
      "\u1680",
      "\u2000",
      "\u2001",
      "\u2002",
      "\u2003",
      "\u2004",
      "\u2005",
      "\u2006",
      "\u2007",
      "\u2008",
      "\u2009",
      "\u200A",
      "\u2028",
      "\u2029",
      "\u202F",
      "\u205F",
      "\u3000"};
  for (auto space : wide)
    if (starts_with(text, space)) return space.size();
  return 0;
}

// Bytes of the white space character at the end of `text`, or 0.
std::size_t space_before_end(std::string_view text) {
  for (std::size_t size = 1; size <= 3 && size <= text.size(); ++size)
    if (space_at(text.substr(text.size() - size)) == size) return size;
  return 0;
}

// Control characters inside strings as escapes.
std::string escaped_controls(std::string_view text) {
  std::string out;
  bool string = false, escape = false;
  for (char c : text) {
    if (string && static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      out += c;
    }
    if (escape) {
      escape = false;
    } else if (string && c == '\\') {
      escape = true;
    } else if (c == '"') {
      string = !string;
    }
  }
  return out;
}

// Digits with single underscores between them, without these.
std::optional<std::string> plain_digits(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    auto digit = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return {};
  }
  return out;
}

void collect_types(
    const Json& schema,
    std::set<std::string>& types,
    int depth) {
  if (!schema.is_object()) {
    types.insert("string");
    return;
  }
  std::set<std::string> found;
  if (auto type = schema.find("type"); type != schema.end()) {
    if (type->is_string()) found.insert(type->get<std::string>());
    if (type->is_array()) {
      for (const auto& one : *type)
        if (one.is_string()) found.insert(one.get<std::string>());
    }
  }
  if (auto list = schema.find("enum");
      list != schema.end() && list->is_array()) {
    for (const auto& value : *list)
      found.insert(
          value.is_null()               ? "null"
              : value.is_boolean()      ? "boolean"
              : value.is_number_float() ? "number"
              : value.is_number()       ? "integer"
              : value.is_string()       ? "string"
              : value.is_array()        ? "array"
                                        : "object");
  }
  for (const char* field : {"anyOf", "oneOf", "allOf"}) {
    auto list = schema.find(field);
    if (list == schema.end() || !list->is_array() || depth <= 0) continue;
    for (const auto& choice : *list)
      collect_types(choice, found, depth - 1);
  }
  if (found.empty()) found.insert("string");
  types.merge(found);
}

std::set<std::string> types_of(const Json& schema) {
  std::set<std::string> found, types;
  collect_types(schema, found, 16);
  for (const auto& type : found)
    types.insert(lower(type));
  return types;
}

bool has_type(const Json& value, const std::set<std::string>& types) {
  if (value.is_number())
    return types.count("number") > 0 ||
        (value.is_number_integer() && types.count("integer") > 0);
  return types.count(value.type_name()) > 0;
}

constexpr int most_nodes = 4096; // of one argument, references followed

// Follows the references in a schema and in its alternatives. What it refers to
// keeps the references that it has further in.
void follow(Json& schema, const Json& root, int depth, int& nodes) {
  if (!schema.is_object() || depth > 8 || ++nodes > most_nodes) return;
  if (auto reference = schema.find("$ref"); reference != schema.end() &&
      reference->is_string() &&
      starts_with(reference->get_ref<const std::string&>(), "#/")) {
    Json::json_pointer place(
        reference->get_ref<const std::string&>().substr(1));
    if (!root.contains(place)) return;
    schema = Json(root.at(place));
    follow(schema, root, depth + 1, nodes);
    return;
  }
  for (const char* field : {"anyOf", "oneOf", "allOf"})
    if (auto list = schema.find(field);
        list != schema.end() && list->is_array())
      for (auto& one : *list)
        follow(one, root, depth + 1, nodes);
}

std::optional<Json> as_bool(std::string_view text) {
  auto word = lower(strip(text));
  for (const char* yes : {"true", "1", "yes", "on"})
    if (word == yes) return Json(true);
  for (const char* no : {"false", "0", "no", "off"})
    if (word == no) return Json(false);
  return {};
}

const Json* function_of(const Json& tools, std::string_view name) {
  if (!tools.is_array()) return nullptr;
  for (const auto& tool : tools) {
    if (!tool.is_object()) continue;
    auto inner = tool.find("function");
    const auto& function =
        inner != tool.end() && inner->is_object() ? *inner : tool;
    auto found = function.find("name");
    if (found != function.end() && found->is_string() &&
        found->get_ref<const std::string&>() == name)
      return &function;
  }
  return nullptr;
}

} // namespace

std::string_view strip(std::string_view text) {
  while (auto size = space_at(text))
    text.remove_prefix(size);
  while (auto size = space_before_end(text))
    text.remove_suffix(size);
  return text;
}

std::string lower(std::string_view text) {
  return lower_ascii(text);
}

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
      (c >= 'a' && c <= 'z') || c == '_' ||
      static_cast<unsigned char>(c) >= 0x80;
}

std::size_t word_length(
    std::string_view text,
    std::size_t from,
    std::string_view more) {
  auto at = from;
  while (at < text.size() &&
         (is_word(text[at]) || more.find(text[at]) != more.npos))
    ++at;
  return at - from;
}

std::size_t skip_space(std::string_view text, std::size_t from) {
  while (from < text.size()) {
    auto size = space_at(text.substr(from));
    if (size == 0) break;
    from += size;
  }
  return from;
}

std::string unquoted(std::string_view text) {
  text = strip(text);
  if (text.size() >= 2 && text.front() == text.back() &&
      (text.front() == '"' || text.front() == '\''))
    text = text.substr(1, text.size() - 2);
  return std::string(text);
}

std::optional<Span> between(
    std::string_view text,
    std::string_view open,
    std::string_view close,
    std::size_t from) {
  auto begin = text.find(open, from);
  if (begin == text.npos) return {};
  auto inner = begin + open.size();
  auto end = text.find(close, inner);
  if (end == text.npos) return {};
  return Span{text.substr(inner, end - inner), begin, end + close.size()};
}

std::vector<Span> all_between(
    std::string_view text,
    std::string_view open,
    std::string_view close) {
  std::vector<Span> out;
  std::size_t from = 0;
  while (auto span = between(text, open, close, from)) {
    from = span->end;
    out.push_back(*span);
  }
  return out;
}

std::optional<Json> json_value(std::string_view text, bool strict) {
  try {
    auto escaped = strict ? std::string(text) : escaped_controls(text);
    return parse_json(
        escaped,
        "call",
        ErrorKind::text,
        {.duplicate_keys = true, .nonfinite = true});
  } catch (const Error&) {
    return {};
  }
}

std::optional<Decoded> json_prefix(std::string_view text, std::size_t from) {
  JsonScanner scanner;
  for (auto at = from; at < text.size(); ++at) {
    if (!scanner.push(text[at])) return {};
    if (!scanner.done()) continue;
    auto value = json_value(text.substr(from, at + 1 - from));
    if (!value) return {};
    return Decoded{std::move(*value), at + 1};
  }
  return {};
}

Json guessed(std::string_view text) {
  if (auto value = json_value(text)) return *value;
  if (auto value = python_literal(text)) return *value;
  return std::string(text);
}

std::optional<Json> python_int(std::string_view text) {
  auto digits = plain_digits(strip(text));
  if (!digits) return {};
  std::string_view left = *digits;
  bool negative = starts_with(left, "-");
  if (negative || starts_with(left, "+")) left.remove_prefix(1);
  auto decimal = [](char c) { return c >= '0' && c <= '9'; };
  if (left.empty() || !std::all_of(left.begin(), left.end(), decimal))
    return {};
  auto signed_text = fmt::format("{}{}", negative ? "-" : "", left);
  std::int64_t small = 0;
  auto [end, error] = std::from_chars(
      signed_text.data(), signed_text.data() + signed_text.size(), small);
  if (error == std::errc()) return Json(small);
  return Json(std::strtod(signed_text.c_str(), nullptr));
}

std::optional<Json> python_number(std::string_view text) {
  auto digits = plain_digits(strip(text));
  if (!digits || digits->empty()) return {};
  // What strtod takes and float() does not: hexadecimal, "nan(...)".
  if (digits->find_first_of("xX(") != digits->npos) return {};
  char* end = nullptr;
  double value = std::strtod(digits->c_str(), &end);
  if (end != digits->c_str() + digits->size()) return {};
  if (std::trunc(value) == value && std::abs(value) < 9e15)
    return Json(static_cast<std::int64_t>(value));
  return Json(value);
}

const Json* argument_schema(
    const Json& tools,
    std::string_view function,
    std::string_view argument) {
  const auto* found = function_of(tools, function);
  if (!found) return nullptr;
  for (const char* key : {"parameters", "properties"}) {
    auto next = found->find(key);
    if (next == found->end() || !next->is_object()) return nullptr;
    found = &*next;
  }
  auto schema = found->find(std::string(argument));
  return schema == found->end() ? nullptr : &*schema;
}

bool is_listed(const Json& tools, std::string_view function) {
  return function_of(tools, function) != nullptr;
}

bool is_string_argument(
    const Json& tools,
    std::string_view function,
    std::string_view argument) {
  const auto* schema = argument_schema(tools, function, argument);
  return schema && schema->is_object() &&
      schema->value("type", Json()) == "string";
}

Json fitted(Json value, std::string_view text, const Json* schema) {
  if (!value.is_string() || !schema || !schema->is_object()) return value;
  auto types = types_of(*schema);
  if (types.count("string")) return value;
  auto json = json_value(strip(text));
  return json && has_type(*json, types) ? *json : value;
}

Json resolved_tools(Json tools) {
  if (!tools.is_array()) return tools;
  for (auto& tool : tools) {
    if (!tool.is_object()) continue;
    auto inner = tool.find("function");
    auto& function = inner != tool.end() && inner->is_object() ? *inner : tool;
    auto schema = function.find("parameters");
    if (schema == function.end() || !schema->is_object()) continue;
    auto all = schema->find("properties");
    if (all == schema->end() || !all->is_object()) continue;
    const Json root = *schema;
    int nodes = 0;
    for (auto& [key, argument] : all->items())
      follow(argument, root, 0, nodes);
  }
  return tools;
}

Json typed_value(std::string_view text, const Json* schema) {
  if (lower(text) == "null") return nullptr;
  auto types = types_of(schema ? *schema : Json());
  auto allowed = [&](const char* type) { return types.count(type) > 0; };
  if (allowed("null") && (lower(text) == "none" || lower(text) == "nil"))
    return nullptr;
  if (allowed("integer") || allowed("int"))
    if (auto value = python_int(text)) return *value;
  if (allowed("number") || allowed("float"))
    if (auto value = python_number(text)) return *value;
  if (allowed("boolean") || allowed("bool"))
    if (auto value = as_bool(text)) return *value;
  if (allowed("object") || allowed("array")) {
    if (auto value = json_value(text, false)) return *value;
    if (auto value = python_literal(text)) return *value;
  }
  if (!allowed("string") && !allowed("str") && !allowed("text"))
    if (auto value = json_value(text)) return *value;
  return std::string(text);
}

void no_call(std::string_view format, std::string_view payload) {
  fail(
      ErrorKind::text,
      "tool call",
      "expected a call as {} writes it, found \"{}\"",
      format,
      printable(payload));
}

} // namespace mlxlm::tools

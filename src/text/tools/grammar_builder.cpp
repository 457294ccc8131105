#include "text/tools/grammar_builder.h"

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "text/grammar.h"

namespace mlxlm::tools {
namespace {

// A regular expression between slashes.
std::string slashed(std::string_view expression) {
  std::string out = "/";
  for (std::size_t i = 0; i < expression.size(); ++i) {
    char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      out += c;
      out += expression[++i];
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '/') {
      out += "\\/";
    } else {
      out += c;
    }
  }
  return out + "/";
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-").find(c) != std::string_view::npos)
      out += '\\';
    out += c;
  }
  return out;
}

// What may be found anywhere in a text, as an expression of whole texts;
// classes of ASCII only, as JSON schemas mean them.
std::string searched(std::string_view pattern) {
  bool from = starts_with(pattern, "^");
  if (from) pattern.remove_prefix(1);
  bool to = ends_with(pattern, "$") && !ends_with(pattern, "\\$");
  if (to) pattern.remove_suffix(1);
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i], next = i + 1 < pattern.size() ? pattern[i + 1] : 0;
    if (c == '\\' && (next == 'd' || next == 'w')) {
      std::string_view set = next == 'd' ? "0-9" : "A-Za-z0-9_";
      out += in_class ? std::string(set) : fmt::format("[{}]", set);
      ++i;
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
    if (c == '\\' && next) out += pattern[++i];
  }
  return fmt::format(
      "{}({}){}", from ? "" : "(.|\\n)*", out, to ? "" : "(.|\\n)*");
}

std::optional<std::size_t> count_in(const Json& schema, const char* name) {
  auto found = schema.find(name);
  if (found == schema.end() || !found->is_number_integer() || *found < 0)
    return {};
  return found->get<std::size_t>();
}

std::string range(
    const Json& schema,
    const char* least,
    const char* most,
    std::size_t taken = 0) {
  auto low = count_in(schema, least).value_or(0);
  auto high = count_in(schema, most);
  return fmt::format(
      "{{{},{}}}",
      low - std::min(low, taken),
      high ? std::to_string(*high - std::min(*high, taken)) : "");
}

} // namespace

void GrammarBuilder::begin(const Json& root) {
  root_ = root;
  made_.clear();
}

std::string GrammarBuilder::literal(std::string_view text) const {
  if (text.empty()) return "";
  std::string out, plain;
  auto flush = [&] {
    if (!plain.empty()) out += fmt::format(" {}", Json(plain).dump());
    plain.clear();
  };
  // Special tokens stand out once the text is cut; what is between them keeps
  // its spelling.
  std::size_t at = 0;
  for (int id : tokenizer_.encode(text, {.add_special = false})) {
    if (!tokenizer_.is_special(id)) continue;
    auto token = tokenizer_.token(id).value_or("");
    auto place = text.find(token, at);
    if (token.empty() || place == text.npos) continue;
    plain += text.substr(at, place - at);
    flush();
    out += fmt::format(" <[{}]>", id);
    at = place + token.size();
  }
  plain += text.substr(at);
  flush();
  return out;
}

std::string GrammarBuilder::rule(
    const std::string& body,
    std::string_view attribute) {
  auto name = fmt::format("r{}", count_++);
  rules_ += fmt::format("{}{}:{}\n", name, attribute, body);
  return " " + name;
}

std::string GrammarBuilder::regex(std::string_view expression) {
  auto name = fmt::format("T{}", count_++);
  rules_ += fmt::format("{}: {}\n", name, slashed(expression));
  return " " + name;
}

std::string GrammarBuilder::json(Json schema) {
  if (schema.is_object())
    for (const char* name : {"$defs", "definitions"})
      if (root_.contains(name) && !schema.contains(name))
        schema[name] = root_[name];
  return rule(
      fmt::format(" %json {}", schema_with_options(std::move(schema)).dump()));
}

std::string GrammarBuilder::either(const std::vector<std::string>& ways) {
  if (ways.size() == 1) return ways[0];
  std::string body;
  for (const auto& way : ways)
    body += (body.empty() ? "" : " |") + (way.empty() ? " \"\"" : way);
  return rule(body);
}

std::string GrammarBuilder::text(const Json& schema, const TextRules& rules) {
  auto whole = slashed("(.|\\n)" + range(schema, "minLength", "maxLength"));
  auto no = [&](std::string_view expression) {
    whole += fmt::format(" & ~{}", slashed(expression));
  };
  bool bounded = whole != slashed("(.|\\n){0,}");
  if (auto pattern = schema.find("pattern");
      pattern != schema.end() && pattern->is_string()) {
    whole += fmt::format(
        " & {}", slashed(searched(pattern->get_ref<const std::string&>())));
    bounded = true;
  }
  if (rules.stripped && bounded) {
    no("\\s(.|\\n)*");
    no("(.|\\n)*\\s");
  }
  for (const auto& refused : rules.refused)
    no(refused);
  // A text ends where its mark begins. Special tokens are no text: what is
  // spelled like one must not come before it.
  auto end = literal(rules.end);
  if (end.find("<[") == end.npos)
    return rule(
        fmt::format(" ({}) {}", whole, Json(rules.end).dump()), "[lazy]");
  no(fmt::format("(.|\\n)*{}(.|\\n)*", escaped(rules.end)));
  auto name = fmt::format("T{}", count_++);
  rules_ += fmt::format("{}: ({}) & /(.|\\n)+/\n", name, whole);
  bool empty = count_in(schema, "minLength").value_or(0) == 0 &&
      !schema.contains("pattern");
  return empty ? fmt::format(" ({})?{}", name, end) : " " + name + end;
}

// N_i: nothing has come before; S_i: something has.
std::string GrammarBuilder::members(
    const std::vector<Member>& all,
    std::string_view between) {
  std::string fresh, behind; // what comes from member i on
  if (between.empty()) {
    for (const auto& one : all)
      fresh += one.needed ? one.terms : fmt::format(" ({} )?", one.terms);
    return fresh;
  }
  auto comma = literal(between);
  for (std::size_t i = all.size(); i-- > 0;) {
    auto item = rule(all[i].terms);
    std::vector<std::string> first = {item + behind},
                             later = {comma + item + behind};
    if (!all[i].needed) {
      first.push_back(fresh);
      later.push_back(behind);
    }
    fresh = either(first);
    behind = either(later);
  }
  return fresh;
}

std::string GrammarBuilder::items(
    const std::string& item,
    const Json& list,
    std::string_view between) {
  auto low = count_in(list, "minItems").value_or(0);
  auto high = count_in(list, "maxItems");
  if (high && *high == 0) return "";
  auto some = fmt::format(
      "{} ({}{} ){}",
      item,
      literal(between),
      item,
      range(list, "minItems", "maxItems", 1));
  return low > 0 ? rule(some) : either({rule(some), ""});
}

// ---- values by what their schemas allow
// --------------------------------------
namespace {

constexpr int most_depth = 16;

const char* type_of(const Json& value) {
  return value.is_null()          ? "null"
      : value.is_boolean()        ? "boolean"
      : value.is_string()         ? "string"
      : value.is_array()          ? "array"
      : value.is_object()         ? "object"
      : value.is_number_integer() ? "integer"
                                  : "number";
}

bool is_type(const Json& value, std::string_view type) {
  return type == type_of(value) ||
      (type == "number" && value.is_number_integer());
}

// Types of a schema that names none, by what else it says.
std::vector<std::string> implied_types(const Json& schema) {
  auto any = [&](auto... names) { return (schema.contains(names) || ...); };
  if (any("properties", "required", "additionalProperties")) return {"object"};
  if (any("items", "prefixItems", "minItems", "maxItems")) return {"array"};
  if (any("pattern", "minLength", "maxLength", "format")) return {"string"};
  if (any("minimum",
          "maximum",
          "multipleOf",
          "exclusiveMinimum",
          "exclusiveMaximum"))
    return {"number"};
  return {};
}

std::vector<std::string> types_of(const Json& schema) {
  std::vector<std::string> out;
  auto type = schema.find("type");
  if (type == schema.end()) return implied_types(schema);
  if (type->is_string()) out.push_back(lower_ascii(type->get<std::string>()));
  if (type->is_array())
    for (const auto& one : *type)
      if (one.is_string()) out.push_back(lower_ascii(one.get<std::string>()));
  return out;
}

// All parts of an allOf and what stands beside them in one schema.
Json merged(const Json& schema) {
  Json out = schema;
  out.erase("allOf");
  for (const auto& part : schema["allOf"]) {
    if (!part.is_object()) continue;
    for (const auto& [key, value] : part.items()) {
      auto& mine = out[key];
      if (mine.is_object() && value.is_object()) {
        mine.update(value);
      } else if (mine.is_array() && value.is_array() && key == "required") {
        mine.insert(mine.end(), value.begin(), value.end());
      } else {
        mine = value;
      }
    }
  }
  return out;
}

const Json* referred(const Json& root, const Json& schema) {
  auto reference = schema.find("$ref");
  if (reference == schema.end() || !reference->is_string()) return nullptr;
  const auto& text = reference->get_ref<const std::string&>();
  if (!starts_with(text, "#")) return nullptr;
  try {
    return &root.at(Json::json_pointer(text.substr(1)));
  } catch (const Json::exception&) { // the compiler will say it
    return nullptr;
  }
}

void add_typed(const Json& schema, const std::string& type, Shapes& out) {
  auto typed = schema;
  typed["type"] = type;
  if (type == "string")
    out.texts.push_back(std::move(typed));
  else if (type == "integer" || type == "number")
    out.numbers.push_back(std::move(typed));
  else if (type == "array")
    out.lists.push_back(std::move(typed));
  else if (type == "object")
    out.objects.push_back(std::move(typed));
  else if (type == "boolean")
    out.constants.insert(out.constants.end(), {Json(true), Json(false)});
  else if (type == "null")
    out.constants.emplace_back(nullptr);
  else
    out.any = true;
}

void add_shapes(const Json& root, const Json& schema, Shapes& out, int depth) {
  if (!schema.is_object() || schema.empty() || depth > most_depth) {
    out.any = true;
    return;
  }
  if (const auto* other = referred(root, schema))
    return add_shapes(root, *other, out, depth + 1);
  if (auto all = schema.find("allOf"); all != schema.end() && all->is_array()) {
    auto one = merged(schema);
    if (one.contains("$ref") && all->size() == 1) // beside a description
      return add_shapes(root, (*all)[0], out, depth + 1);
    return add_shapes(root, one, out, depth + 1);
  }
  auto types = types_of(schema);
  auto right = [&](const Json& value) {
    return types.empty() ||
        std::any_of(types.begin(), types.end(), [&](const auto& type) {
             return is_type(value, type);
           });
  };
  if (schema.contains("const")) {
    out.constants.push_back(schema["const"]);
    return;
  }
  if (auto list = schema.find("enum");
      list != schema.end() && list->is_array()) {
    for (const auto& value : *list)
      if (right(value)) out.constants.push_back(value);
    return;
  }
  for (const char* name : {"anyOf", "oneOf"})
    if (auto list = schema.find(name);
        list != schema.end() && list->is_array()) {
      for (const auto& one : *list)
        add_shapes(root, one, out, depth + 1);
      return;
    }
  for (const auto& type : types)
    add_typed(schema, type, out);
  out.any = out.any || types.empty();
}

} // namespace

bool Shapes::allows(const Json& value) const {
  if (any ||
      std::find(constants.begin(), constants.end(), value) != constants.end())
    return true;
  if (value.is_string()) return !texts.empty();
  if (value.is_array()) return !lists.empty();
  if (value.is_object()) return !objects.empty();
  return value.is_number() &&
      std::any_of(numbers.begin(), numbers.end(), [&](const Json& one) {
           return is_type(value, one["type"].get<std::string>());
         });
}

Shapes GrammarBuilder::shapes(const Json& schema) const {
  Shapes out;
  add_shapes(root_, schema, out, 0);
  return out;
}

std::vector<Property> properties_of(const Json& schema) {
  std::vector<Property> out;
  auto properties = schema.find("properties");
  if (properties == schema.end() || !properties->is_object()) return out;
  auto required = schema.find("required");
  for (const auto& [key, value] : properties->items())
    out.push_back(
        {key,
         &value,
         required != schema.end() && required->is_array() &&
             std::find(required->begin(), required->end(), Json(key)) !=
                 required->end()});
  return out;
}

} // namespace mlxlm::tools

// What a schema allows, as alternatives that each say all of it: references
// followed, allOf and what stands beside put together, anyOf multiplied out.
// What cannot be is refused, nothing is left out.
#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/grammar_builder.h"

namespace mlxlm::tools {

void cannot_force(std::string what, Json schema) {
  throw CannotForce{std::move(what), std::move(schema)};
}

namespace {

constexpr int most_nested = 16;
constexpr std::size_t most_ways = 512;

// ---- parts that say all by themselves
// ---------------------------------------
// Words that allow and forbid nothing.
bool is_remark(std::string_view key) {
  static const std::set<std::string_view> words = {
      "title",
      "description",
      "default",
      "examples",
      "example",
      "deprecated",
      "readOnly",
      "writeOnly",
      "$comment",
      "$schema",
      "$id",
      "id",
      "$defs",
      "definitions",
      "contentMediaType",
      "contentEncoding"};
  return words.count(key) > 0;
}

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

std::vector<std::string> types_named(const Json& type) {
  std::vector<std::string> out;
  for (const auto& one : type.is_array() ? type : Json::array({type}))
    if (one.is_string()) out.push_back(lower_ascii(one.get<std::string>()));
  return out;
}

// A schema without what is looked at elsewhere; lists in one spelling.
Json plain_part(const Json& schema) {
  Json out = Json::object();
  for (const auto& [key, value] : schema.items()) {
    bool elsewhere =
        key == "$ref" || key == "allOf" || key == "anyOf" || key == "oneOf";
    if (!elsewhere && !is_remark(key)) out[key] = value;
  }
  if (out.contains("const")) {
    auto values = Json::array({out["const"]});
    out.erase("const");
    if (out.contains("enum")) cannot_force("enum beside const", schema);
    out["enum"] = std::move(values);
  }
  if (out.contains("items") && out["items"].is_array()) {
    out["prefixItems"] = out["items"];
    out.erase("items");
    if (out.contains("additionalItems")) out["items"] = out["additionalItems"];
  }
  out.erase("additionalItems");
  if (out.contains("type")) out["type"] = types_named(out["type"]);
  return out;
}

Json both(const Json& a, const Json& b) {
  if (a == b || b == Json(true)) return a;
  if (a == Json(true)) return b;
  return {{"allOf", {a, b}}};
}

std::optional<Json> common_types(const Json& a, const Json& b) {
  auto out = Json::array();
  for (const auto& one : a)
    for (const auto& other : b) {
      if (one == other) out.push_back(one);
      bool whole = (one == "integer" && other == "number") ||
          (one == "number" && other == "integer");
      if (whole) out.push_back("integer");
    }
  if (out.empty()) return {};
  return out;
}

Json member_or(const Json& schema, const char* key, const Json& fallback) {
  auto found = schema.find(key);
  return found == schema.end() ? fallback : *found;
}

// What a part says of a member that its `properties` do not name.
Json other_members(const Json& part) {
  if (part.contains("patternProperties"))
    cannot_force("patternProperties beside other schemas", part);
  return member_or(part, "additionalProperties", true);
}

void combine_objects(const Json& a, const Json& b, Json& out) {
  bool said = false;
  for (const char* key :
       {"properties", "additionalProperties", "patternProperties"})
    said = said || b.contains(key);
  if (!said) return;
  const Json none = Json::object();
  auto mine = member_or(a, "properties", none),
       other = member_or(b, "properties", none);
  auto rest = other_members(a), other_rest = other_members(b);
  auto all = Json::object();
  for (const auto& [key, value] : mine.items())
    all[key] = both(value, member_or(other, key.c_str(), other_rest));
  for (const auto& [key, value] : other.items())
    if (!mine.contains(key)) all[key] = both(rest, value);
  out["properties"] = std::move(all);
  out["additionalProperties"] = both(rest, other_rest);
}

void combine_lists(const Json& a, const Json& b, Json& out) {
  if (!b.contains("items") && !b.contains("prefixItems")) return;
  const Json none = Json::array();
  auto mine = member_or(a, "prefixItems", none),
       other = member_or(b, "prefixItems", none);
  auto rest = member_or(a, "items", true),
       other_rest = member_or(b, "items", true);
  auto first = Json::array();
  for (std::size_t i = 0; i < std::max(mine.size(), other.size()); ++i)
    first.push_back(both(
        i < mine.size() ? mine[i] : rest,
        i < other.size() ? other[i] : other_rest));
  if (!first.empty()) out["prefixItems"] = std::move(first);
  out["items"] = both(rest, other_rest);
}

bool is_any_of(std::string_view key, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

// Both hold. Nothing: no value is of both.
std::optional<Json> combined(const Json& a, const Json& b) {
  Json out = a;
  for (const auto& [key, value] : b.items()) {
    if (is_any_of(
            key,
            {"properties",
             "additionalProperties",
             "patternProperties",
             "items",
             "prefixItems"}))
      continue;
    auto found = out.find(key);
    if (found == out.end() || *found == value) {
      out[key] = value;
    } else if (key == "type") {
      auto types = common_types(*found, value);
      if (!types) return {};
      *found = *types;
    } else if (key == "enum") {
      auto values = Json::array();
      for (const auto& one : *found)
        if (std::find(value.begin(), value.end(), one) != value.end())
          values.push_back(one);
      if (values.empty()) return {};
      *found = std::move(values);
    } else if (key == "required") {
      found->insert(found->end(), value.begin(), value.end());
    } else if (starts_with(key, "min") || key == "exclusiveMinimum") {
      *found = std::max(*found, value);
    } else if (starts_with(key, "max") || key == "exclusiveMaximum") {
      *found = std::min(*found, value);
    } else {
      cannot_force(fmt::format("{} twice", key), {{"allOf", {a, b}}});
    }
  }
  combine_objects(a, b, out);
  combine_lists(a, b, out);
  return out;
}

// ---- alternatives
// -----------------------------------------------------------
using Ways = std::vector<Json>;

const Json& referred(const Json& root, const Json& schema) {
  const auto& reference = schema["$ref"];
  if (reference.is_string()) {
    const auto& text = reference.get_ref<const std::string&>();
    try {
      if (starts_with(text, "#") && text.find('%') == text.npos)
        return root.at(Json::json_pointer(text.substr(1)));
    } catch (const Json::exception&) { // as below
    }
  }
  cannot_force("a reference that leads nowhere", schema);
}

Ways crossed(const Ways& a, const Ways& b, const Json& schema) {
  Ways out;
  for (const auto& one : a)
    for (const auto& other : b)
      if (auto way = combined(one, other)) out.push_back(std::move(*way));
  if (out.size() > most_ways) cannot_force("too many alternatives", schema);
  return out;
}

Ways ways_of(const Json& root, const Json& schema, int depth) {
  if (schema.is_boolean())
    return schema.get<bool>() ? Ways{Json::object()} : Ways{};
  if (!schema.is_object()) cannot_force("what is no schema", schema);
  if (depth > most_nested) cannot_force("references without an end", schema);
  Ways out = {plain_part(schema)};
  auto with = [&](const Json& other) {
    out = crossed(out, ways_of(root, other, depth + 1), schema);
  };
  if (schema.contains("$ref")) with(referred(root, schema));
  for (const auto& part : member_or(schema, "allOf", Json::array()))
    with(part);
  if (schema.contains("oneOf"))
    cannot_force("oneOf whose alternatives do not exclude one another", schema);
  if (schema.contains("anyOf")) {
    Ways any;
    for (const auto& one : schema["anyOf"])
      for (auto& way : ways_of(root, one, depth + 1))
        any.push_back(std::move(way));
    out = crossed(out, any, schema);
  }
  return out;
}

// ---- shapes
// ------------------------------------------------------------------
// Types of a part that names none, by what else it says.
std::vector<std::string> implied_types(const Json& part) {
  auto any = [&](auto... names) { return (part.contains(names) || ...); };
  if (any("properties",
          "required",
          "additionalProperties",
          "patternProperties",
          "minProperties",
          "maxProperties"))
    return {"object"};
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

std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
      }));
}

// Whether a constant is what stands beside its list.
bool fits(const Json& value, const Json& part) {
  auto bound = [&](const char* name, auto size, auto holds) {
    auto found = part.find(name);
    return found == part.end() || !found->is_number() ||
        holds(size, found->get<double>());
  };
  auto least = [](double size, double limit) { return size >= limit; };
  auto most = [](double size, double limit) { return size <= limit; };
  auto beside = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (part.contains(name))
        cannot_force(fmt::format("{} beside enum", name), part);
  };
  if (value.is_number()) {
    beside({"multipleOf"});
    auto x = value.get<double>();
    return bound("minimum", x, least) && bound("maximum", x, most) &&
        bound("exclusiveMinimum", x, std::greater<>()) &&
        bound("exclusiveMaximum", x, std::less<>());
  }
  if (value.is_string()) {
    beside({"pattern", "format"});
    auto size = double(characters(value.get<std::string>()));
    return bound("minLength", size, least) && bound("maxLength", size, most);
  }
  if (value.is_array()) {
    beside({"items", "prefixItems"});
    auto size = double(value.size());
    return bound("minItems", size, least) && bound("maxItems", size, most);
  }
  if (value.is_object())
    beside(
        {"properties",
         "required",
         "additionalProperties",
         "patternProperties",
         "minProperties",
         "maxProperties"});
  return true;
}

void add_typed(const Json& part, const std::string& type, Shapes& out) {
  auto typed = part;
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
    cannot_force(fmt::format("a type \"{}\"", type), part);
}

void add_shapes(const Json& part, Shapes& out) {
  auto types =
      part.contains("type") ? types_named(part["type"]) : implied_types(part);
  if (auto list = part.find("enum"); list != part.end()) {
    for (const auto& value : *list) {
      bool right = !part.contains("type") ||
          std::any_of(types.begin(), types.end(), [&](const auto& type) {
            return is_type(value, type);
          });
      if (right && fits(value, part)) out.constants.push_back(value);
    }
    return;
  }
  for (const auto& type : types)
    add_typed(part, type, out);
  if (types.empty()) {
    if (!part.empty())
      cannot_force(fmt::format("{}", part.begin().key()), part);
    out.any = true;
  }
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
  for (const auto& part : ways_of(root_, schema, 0))
    add_shapes(part, out);
  return out;
}

// ---- members of an object
// ----------------------------------------------------
std::vector<Property> properties_of(const Json& schema) {
  std::vector<Property> out;
  std::set<std::string> needed;
  for (const auto& key : member_or(schema, "required", Json::array()))
    if (key.is_string()) needed.insert(key.get<std::string>());
  const Json none = Json::object();
  const auto named = member_or(schema, "properties", none);
  if (schema.contains("patternProperties") &&
      (!named.empty() || !needed.empty()))
    cannot_force("patternProperties", schema);
  for (const auto& [key, value] : named.items()) {
    bool must = needed.erase(key) > 0;
    if (value != Json(false))
      out.push_back({key, value, must});
    else if (must)
      cannot_force(fmt::format("\"{}\" needed and forbidden", key), schema);
  }
  auto more = member_or(schema, "additionalProperties", true);
  for (const auto& key : needed) {
    if (more == Json(false))
      cannot_force(fmt::format("\"{}\" needed and forbidden", key), schema);
    out.push_back({key, more, true});
  }
  auto count = [&] {
    return std::count_if(
        out.begin(), out.end(), [](const Property& one) { return one.needed; });
  };
  // As many as have to come, and no more than may: a narrower choice.
  auto least = member_or(schema, "minProperties", 0).get<std::int64_t>();
  for (auto& one : out)
    if (count() < least) one.needed = true;
  if (count() < least && !out.empty()) cannot_force("minProperties", schema);
  auto most = schema.find("maxProperties");
  if (most == schema.end()) return out;
  for (auto i = out.size(); i-- > 0;)
    if (std::int64_t(out.size()) > *most && !out[i].needed)
      out.erase(out.begin() + static_cast<std::ptrdiff_t>(i));
  if (std::int64_t(out.size()) > *most) cannot_force("maxProperties", schema);
  return out;
}

std::vector<const Json*> listed_items(const Json& list, std::size_t most) {
  std::vector<const Json*> out;
  auto first = list.find("prefixItems");
  if (first == list.end()) return out;
  for (const auto& one : *first)
    if (out.size() < most) out.push_back(&one);
  return out;
}

} // namespace mlxlm::tools

// What a schema allows by types, and the members of an object that is one way
// of it; see grammar_builder.h.
#include <algorithm>
#include <functional>
#include <set>

#include "core/check.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/schema_ways.h"

namespace mlxlm::tools {

void cannot_force(std::string what, Json schema) {
  throw CannotForce{std::move(what), std::move(schema)};
}

namespace {

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
  for (const auto& part : schema_ways(root_, schema))
    add_shapes(part, out);
  return out;
}

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

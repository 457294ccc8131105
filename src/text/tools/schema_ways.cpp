// References are followed, allOf and what stands beside put together, anyOf
// multiplied out; see schema_ways.h.
#include "text/tools/schema_ways.h"

#include <algorithm>
#include <optional>
#include <set>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/grammar_builder.h"

namespace mlxlm::tools {

std::vector<std::string> types_named(const Json& type) {
  std::vector<std::string> out;
  for (const auto& one : type.is_array() ? type : Json::array({type}))
    if (one.is_string()) out.push_back(lower_ascii(one.get<std::string>()));
  return out;
}

Json member_or(const Json& schema, const char* key, const Json& fallback) {
  auto found = schema.find(key);
  return found == schema.end() ? fallback : *found;
}

namespace {

constexpr int most_nested = 16;
constexpr std::size_t most_ways = 512;

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

} // namespace

Ways schema_ways(const Json& root, const Json& schema) {
  return ways_of(root, schema, 0);
}

} // namespace mlxlm::tools

// The schemas in a JSON schema.
#pragma once

#include <functional>
#include <string>

#include "core/json.h"

namespace mlxlm::schemas {

inline constexpr const char* schema_maps[] = {
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas"};
inline constexpr const char* schema_lists[] = {
    "prefixItems",
    "allOf",
    "anyOf",
    "oneOf"};
inline constexpr const char* single_schemas[] = {
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties"};

inline bool has(const Json& schema, const char* keyword) {
  return schema.is_object() && schema.contains(keyword);
}

// Goes on to the schemas in a schema before it visits it. `visit` returns
// false to stop. J: Json or const Json.
template <typename J>
bool each_schema(
    J& schema,
    const std::string& place,
    const std::function<bool(J&, const std::string&)>& visit) {
  if (!schema.is_object()) return true;
  auto items = [&](J& list, const std::string& where) {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (!each_schema<J>(list[i], where + "/" + std::to_string(i), visit))
        return false;
    return true;
  };
  for (const char* name : schema_maps)
    if (has(schema, name) && schema[name].is_object())
      for (auto& [key, value] : schema[name].items())
        if (!each_schema<J>(value, place + "/" + name + "/" + key, visit))
          return false;
  for (const char* name : schema_lists)
    if (has(schema, name) && schema[name].is_array() &&
        !items(schema[name], place + "/" + name))
      return false;
  for (const char* name : single_schemas) {
    if (!has(schema, name)) continue;
    auto where = place + "/" + name;
    if (schema[name].is_array() ? !items(schema[name], where)
                                : !each_schema<J>(schema[name], where, visit))
      return false;
  }
  return visit(schema, place);
}

} // namespace mlxlm::schemas

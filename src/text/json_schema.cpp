#include "text/json_schema.h"

#include <string>
#include <utility>

#include "text/schema_exclusion.h"
#include "text/schema_walk.h"

namespace mlxlm {

namespace {

using schemas::each_schema;
using schemas::has;

bool all_exclude(SchemaExclusion& exclusion, const Json& list) {
  for (std::size_t i = 0; i < list.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (!exclusion.proven(list[i], list[j])) return false;
  return true;
}

// A keyword more, beside one that may be there.
void add(Json& schema, const char* keyword, Json value) {
  if (!schema.contains(keyword)) {
    schema[keyword] = std::move(value);
    return;
  }
  Json also = {{keyword, std::move(value)}};
  if (schema.contains("allOf") && !schema["allOf"].is_array()) return; // wrong
  schema["allOf"].push_back(std::move(also));
}

} // namespace

void for_each_schema(
    const Json& schema,
    const std::function<bool(const Json& part, const std::string& place)>&
        visit) {
  each_schema<const Json>(schema, "#", visit);
}

Json without_one_of(Json schema) {
  if (place_of_keyword(schema, "oneOf").empty()) return schema;
  const auto whole = schema; // what references mean
  SchemaExclusion exclusion(whole);
  each_schema<Json>(schema, "#", [&](Json& part, auto&) {
    if (!has(part, "oneOf") || !part["oneOf"].is_array() ||
        !all_exclude(exclusion, part["oneOf"]))
      return true;
    auto list = std::move(part["oneOf"]);
    part.erase("oneOf");
    add(part, "anyOf", std::move(list));
    return true;
  });
  return schema;
}

std::string place_of_keyword(const Json& schema, std::string_view keyword) {
  std::string found;
  std::string name(keyword);
  each_schema<const Json>(
      schema, "#", [&](const Json& part, const std::string& place) {
        if (has(part, name.c_str())) found = place;
        return found.empty();
      });
  return found;
}

} // namespace mlxlm

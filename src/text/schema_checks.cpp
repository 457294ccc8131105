// What schemas may say, keyword by keyword, and where something stands in one.
#include <algorithm>
#include <string>
#include <utility>

#include "text/json_schema.h"

namespace mlxlm {
namespace {

bool is_count(const Json& value) {
  return value.is_number_integer() && value >= 0 && value < (1 << 24);
}
bool is_text_list(const Json& value) {
  return value.is_array() &&
      std::all_of(value.begin(), value.end(), [](const Json& one) {
           return one.is_string();
         });
}
bool is_schema(const Json& value) {
  return value.is_object() || value.is_boolean();
}

using Check = bool (*)(const Json& value);
constexpr Check never = [](const Json&) { return false; };
constexpr Check schemas = [](const Json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), is_schema);
};
constexpr Check some_schemas = [](const Json& value) {
  return schemas(value) && !value.empty();
};
constexpr Check named_schemas = [](const Json& value) {
  return value.is_object() &&
      std::all_of(value.begin(), value.end(), is_schema);
};
constexpr Check a_number = [](const Json& value) { return value.is_number(); };
constexpr Check a_text = [](const Json& value) { return value.is_string(); };
constexpr Check a_list = [](const Json& value) { return value.is_array(); };

// What the value of a keyword has to be. Keywords of no draft mean nothing.
constexpr std::pair<const char*, Check> keywords[] = {
    {"not", never},
    {"if", never},
    {"then", never},
    {"else", never},
    {"contains", never},
    {"minContains", never},
    {"maxContains", never},
    {"propertyNames", never},
    {"dependencies", never},
    {"dependentRequired", never},
    {"dependentSchemas", never},
    {"unevaluatedItems", never},
    {"unevaluatedProperties", never},
    {"$dynamicRef", never},
    {"$recursiveRef", never},
    {"uniqueItems", [](const Json& value) { return value == Json(false); }},
    {"$ref", a_text},
    {"type",
     [](const Json& value) {
       return value.is_string() || is_text_list(value);
     }},
    {"enum", a_list},
    {"allOf", some_schemas},
    {"anyOf", some_schemas},
    {"oneOf", some_schemas},
    {"properties", named_schemas},
    {"patternProperties", named_schemas},
    {"additionalProperties", is_schema},
    {"required", is_text_list},
    {"items",
     [](const Json& value) { return is_schema(value) || schemas(value); }},
    {"prefixItems", schemas},
    {"additionalItems", is_schema},
    {"pattern", a_text},
    {"format", a_text},
    {"minLength", is_count},
    {"maxLength", is_count},
    {"minItems", is_count},
    {"maxItems", is_count},
    {"minProperties", is_count},
    {"maxProperties", is_count},
    {"minimum", a_number},
    {"maximum", a_number},
    {"exclusiveMinimum", a_number},
    {"exclusiveMaximum", a_number},
    {"multipleOf", a_number},
};

} // namespace

std::string place_of_what_is_not_enforced(const Json& schema) {
  std::string found;
  for_each_schema(schema, [&](const Json& part, const std::string& place) {
    for (const auto& [name, right] : keywords)
      if (auto value = part.find(name); value != part.end() && !right(*value)) {
        found = place + "/" + name;
        return false;
      }
    return true;
  });
  return found;
}

std::string place_of(const Json& schema, const Json& part) {
  std::string found;
  for_each_schema(schema, [&](const Json& one, const std::string& place) {
    if (one == part) found = place;
    return found.empty();
  });
  return found;
}

} // namespace mlxlm

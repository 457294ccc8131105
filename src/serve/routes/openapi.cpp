// GET /openapi.json: what is served, from the table of routes and the table of
// settings.
#include "serve/routes/routes.h"

#include "core/strings.h"

namespace mlxlm::serve {
namespace {

Json schema_of(const Setting& row) {
  Json out = {{"description", row.help}};
  switch (row.type) {
    case SettingType::integer:
      out["type"] = "integer";
      break;
    case SettingType::real:
      out["type"] = "number";
      break;
    case SettingType::list:
      out["type"] = "array";
      out["items"] = {{"type", "string"}};
      return out;
    case SettingType::map:
      out["type"] = "object";
      out["additionalProperties"] = {{"type", "number"}};
      return out;
    case SettingType::choice:
      out["type"] = "string";
      out["enum"] = split(row.choices, ' ');
      return out;
  }
  out["minimum"] = row.low;
  out["maximum"] = row.high;
  return out;
}

Json sampling_schema() {
  auto properties = Json::object();
  for (const auto& row : generation_settings())
    properties[std::string(row.name)] = schema_of(row);
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

Json operation(const Route& route) {
  Json out = {{"summary", route.about}};
  out["responses"] = {{"200", {{"description", "OK"}}}};
  if (!route.open) out["security"] = Json::array({{{"key", Json::array()}}});
  if (route.method != "POST") return out;
  auto body = Json::object();
  body["$ref"] = "#/components/schemas/Sampling";
  out["requestBody"] = {
      {"content", {{"application/json", {{"schema", std::move(body)}}}}}};
  return out;
}

} // namespace

ReplyPtr openapi(Context& context) {
  auto paths = Json::object();
  for (const auto& route : routes()) {
    std::string path(route.path);
    if (ends_with(path, "*")) path.replace(path.size() - 1, 1, "{id}");
    auto entry = operation(route);
    if (ends_with(path, "{id}"))
      entry["parameters"] = Json::array(
          {{{"name", "id"},
            {"in", "path"},
            {"required", true},
            {"schema", {{"type", "string"}}}}});
    paths[path][lower_ascii(route.method)] = std::move(entry);
  }
  Json key = {{"type", "http"}, {"scheme", "bearer"}};
  Json info = {{"title", "mlxlm"}, {"version", "1"}};
  Json components = {{"schemas", {{"Sampling", sampling_schema()}}}};
  components["securitySchemes"] = {{"key", std::move(key)}};
  return context.json(
      {{"openapi", "3.1.0"},
       {"info", std::move(info)},
       {"paths", std::move(paths)},
       {"components", std::move(components)}});
}

} // namespace mlxlm::serve

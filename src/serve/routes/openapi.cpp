// GET /openapi.json: what is served, from the table of routes and the table of
// settings.
#include "serve/routes/routes.h"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "core/strings.h"
#include "serve/sampling.h"

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
  auto [low, high] = bounds_of(row);
  out["minimum"] = low;
  out["maximum"] = high;
  return out;
}

Json reference(const std::string& schema) {
  return {{"$ref", "#/components/schemas/" + schema}};
}

Json typed(std::string_view type, std::string_view about) {
  return {{"type", type}, {"description", about}};
}

Json object_of(Json properties) {
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

Json sampling_schema() {
  auto properties = Json::object();
  for (const auto& row : generation_settings())
    properties[std::string(row.name)] = schema_of(row);
  return object_of(std::move(properties));
}

// What every request to a model may have.
Json common_schema() {
  return object_of(
      {{"model", typed("string", "which one; none: the first")},
       {"adapters", typed("string", "a LoRA of --adapters-dir")},
       {"keep_alive",
        {{"type", {"string", "number"}},
         {"description", "how long the model stays: \"5m\", seconds"}}},
       {"cache_salt", typed("string", "shares prefixes with its like only")},
       {"cache_prompt",
        typed("boolean", "begins with what others have read")}});
}

Json error_schema() {
  auto properties = Json::object();
  for (const char* name : {"message", "type"})
    properties[name] = {{"type", "string"}};
  for (const char* name : {"param", "code"})
    properties[name] = {{"type", {"string", "null"}}};
  return object_of({{"error", object_of(std::move(properties))}});
}

enum class Takes { object, model, sampling, options };

// What a route's body must have, and where the settings are.
struct Asked {
  ReplyPtr (*run)(Context&);
  Takes takes;
  std::string_view needed; // names, separated by spaces
};
constexpr Asked bodies[] = {
    {chat_completions, Takes::sampling, "messages"},
    {completions, Takes::sampling, "prompt"},
    {responses, Takes::sampling, "input"},
    {messages, Takes::sampling, "messages"},
    {count_tokens, Takes::model, "messages"},
    {infill, Takes::sampling, "input_prefix input_suffix"},
    {ollama_chat, Takes::options, "model"},
    {ollama_generate, Takes::options, "model"},
    {ollama_show, Takes::model, "model"},
    {tokenize, Takes::model, "content"},
    {detokenize, Takes::model, "tokens"},
    {apply_template, Takes::model, "messages"},
    {put_conversation, Takes::object, "id"},
};

Json body_schema(const Route& route) {
  auto row = std::find_if(
      std::begin(bodies), std::end(bodies), [&](const Asked& asked) {
        return asked.run == route.run;
      });
  if (row == std::end(bodies)) return nullptr;
  Json own = {{"type", "object"}, {"required", split(row->needed, ' ')}};
  if (row->takes == Takes::object) return own;
  if (row->takes != Takes::model)
    own["properties"]["stream"] = typed("boolean", "the answer as it comes");
  if (row->takes == Takes::options)
    own["properties"]["options"] = reference("Sampling");
  auto parts = Json::array({reference("Common"), std::move(own)});
  if (row->takes == Takes::sampling) parts.push_back(reference("Sampling"));
  return {{"allOf", std::move(parts)}};
}

// "get_v1_models_id"
std::string operation_name(std::string_view method, std::string_view path) {
  auto out = lower_ascii(method);
  bool gap = true;
  for (char c : path) {
    bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (letter && gap) out += '_';
    if (letter) out += c;
    gap = !letter;
  }
  return out;
}

Json content_of(std::string_view type, Json schema) {
  return {{std::string(type), {{"schema", std::move(schema)}}}};
}

Json operation(const Route& route, std::string_view path) {
  Json out = {
      {"summary", route.about},
      {"operationId", operation_name(route.method, path)}};
  Json failed = {{"description", "why not"}};
  if (style_of(path) == Style::openai)
    failed["content"] = content_of("application/json", reference("Error"));
  out["responses"] = {
      {"200", {{"description", "OK"}}}, {"default", std::move(failed)}};
  auto key = [](const char* scheme) { return Json{{scheme, Json::array()}}; };
  if (!route.open) out["security"] = Json::array({key("key"), key("header")});
  if (auto schema = body_schema(route); !schema.is_null())
    out["requestBody"] = {
        {"required", true},
        {"content", content_of("application/json", std::move(schema))}};
  return out;
}

} // namespace

ReplyPtr openapi(Context& context) {
  auto paths = Json::object();
  for (const auto& route : routes()) {
    std::string path(route.path);
    bool named = ends_with(path, "*");
    if (named) path.replace(path.size() - 1, 1, "{id}");
    auto entry = operation(route, path);
    if (named)
      entry["parameters"] = Json::array(
          {{{"name", "id"},
            {"in", "path"},
            {"required", true},
            {"schema", {{"type", "string"}}}}});
    paths[path][lower_ascii(route.method)] = std::move(entry);
  }
  Json info = {{"title", "mlxlm"}, {"version", "1"}};
  Json components = {
      {"schemas",
       {{"Sampling", sampling_schema()},
        {"Common", common_schema()},
        {"Error", error_schema()}}}};
  components["securitySchemes"] = {
      {"key", {{"type", "http"}, {"scheme", "bearer"}}},
      {"header",
       {{"type", "apiKey"}, {"in", "header"}, {"name", "x-api-key"}}}};
  return context.json(
      {{"openapi", "3.1.0"},
       {"info", std::move(info)},
       {"paths", std::move(paths)},
       {"components", std::move(components)}});
}

} // namespace mlxlm::serve

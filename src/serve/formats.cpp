#include "serve/formats.h"

#include <fmt/format.h>

#include "core/strings.h"

namespace mlxlm::serve {
namespace {

using Type = ResponseFormat::Type;

ResponseFormat text_format(Body& body, const char* name, Type type) {
  return {type, body.needed(name, body.text(name, 1 << 20))};
}

ResponseFormat choice_format(const Json& list, const std::string& where) {
  if (!list.is_array() || list.empty())
    wrong_value(where, "a list of texts", list);
  for (const auto& text : list)
    if (!text.is_string()) wrong_value(where, "a list of texts", text);
  return {Type::choice, list.dump()};
}

// One field of several names, each with its own kind of format.
bool read_one(
    Body& body,
    const char* name,
    Type type,
    const Limits& limits,
    ResponseFormat& out) {
  const auto* value = body.any(name);
  if (!value) return false;
  if (out.type != Type::text)
    bad_request(
        body.path(name),
        fmt::format("{}: expected one format, found several", body.path(name)));
  if (type == Type::json_schema)
    out = schema_format(*value, body.path(name), limits);
  else if (type == Type::choice)
    out = choice_format(*value, body.path(name));
  else
    out = text_format(body, name, type);
  return true;
}

void read_fields(
    Body& body,
    std::string_view prefix,
    const Limits& limits,
    ResponseFormat& out) {
  struct Field {
    const char* name;
    Type type;
  };
  constexpr Field fields[] = {
      {"json", Type::json_schema},
      {"regex", Type::regex},
      {"choice", Type::choice},
      {"grammar", Type::grammar}};
  for (const auto& field : fields)
    read_one(
        body,
        (std::string(prefix) + field.name).c_str(),
        field.type,
        limits,
        out);
}

} // namespace

ResponseFormat schema_format(
    const Json& schema,
    const std::string& where,
    const Limits& limits) {
  Json parsed;
  const auto* value = &schema;
  if (schema.is_string()) { // vLLM takes JSON text as well
    try {
      parsed = parse_json(
          schema.get_ref<const std::string&>(), where, ErrorKind::request);
    } catch (const Error& error) {
      bad_request(where, error.what());
    }
    value = &parsed;
  }
  if (!value->is_object()) wrong_value(where, "a JSON schema", *value);
  auto text = value->dump();
  if (text.size() > static_cast<std::size_t>(limits.schema_bytes))
    bad_request(
        where,
        fmt::format(
            "{}: expected at most {} bytes of schema, found {}",
            where,
            limits.schema_bytes,
            text.size()));
  return {Type::json_schema, std::move(text)};
}

ResponseFormat read_format_object(Body& format, const Limits& limits) {
  auto type = format.needed("type", format.text("type", 64));
  if (type == "text") return {};
  if (type == "json_object") {
    if (const auto* schema = format.object("schema")) // llama-server's way
      return schema_format(*schema, format.path("schema"), limits);
    return {Type::json_object, ""};
  }
  if (type == "json_schema") {
    const auto* inner = format.object("json_schema");
    if (!inner) { // the Responses API has no level between
      format.accept({"name", "strict", "description"});
      return schema_format(
          format.needed("schema", format.any("schema")),
          format.path("schema"),
          limits);
    }
    Body body(*inner, format.path("json_schema"));
    body.text("name", 256);
    body.boolean("strict");
    body.text("description");
    return schema_format(
        body.needed("schema", body.any("schema")), body.path("schema"), limits);
  }
  if (type == "regex")
    return text_format(
        format, format.has("pattern") ? "pattern" : "regex", Type::regex);
  if (type == "grammar") return text_format(format, "grammar", Type::grammar);
  wrong_value(
      format.path("type"),
      "one of text, json_object, json_schema, regex, grammar",
      Json(type));
}

ResponseFormat read_response_format(Body& body, const Limits& limits) {
  ResponseFormat out;
  if (const auto* format = body.object("response_format")) {
    Body inner(*format, body.path("response_format"));
    out = read_format_object(inner, limits);
  }
  read_one(body, "json_schema", Type::json_schema, limits, out);
  read_one(body, "regex", Type::regex, limits, out);
  read_one(body, "choice", Type::choice, limits, out);
  read_one(body, "grammar", Type::grammar, limits, out);
  read_fields(body, "guided_", limits, out);
  if (const auto* outputs = body.object("structured_outputs")) {
    Body inner(*outputs, body.path("structured_outputs"));
    read_fields(inner, "", limits, out);
  }
  return out;
}

void force_call(
    const Conversation& conversation,
    const Engine& engine,
    GenerateParameters& parameters) {
  if (!conversation.forced) return;
  if (parameters.response_format.type != Type::text)
    bad_request(
        "tool_choice",
        "tool_choice: a call and a response_format cannot both be enforced");
  try {
    parameters.response_format = engine.forced_call(
        conversation.tools.dump(), *conversation.forced, conversation.several);
  } catch (const Error& error) {
    bad_request("tool_choice", error.what(), "unsupported");
  }
}

} // namespace mlxlm::serve

// Values within values in a spelling that is no JSON: Python's, Gemma's.
#include "core/check.h"
#include "text/tools/grammar_builder.h"

#include <string>

namespace mlxlm::tools {
namespace {

// A text of Python: escapes that JSON and Python read alike.
std::string python_text(GrammarBuilder& builder, const Json& schema) {
  auto count = [&](const char* name) -> std::string {
    auto found = schema.find(name);
    return found != schema.end() && found->is_number_unsigned() ? found->dump()
                                                                : "";
  };
  if (schema.contains("pattern"))
    return builder.literal("\"") +
        builder.text(schema, {"\"", false, {"(.|\\n)*[\\\\\\n\\r](.|\\n)*"}});
  auto least = count("minLength");
  return builder.regex(fmt::format(
      "\"([^\"\\\\\\n\\r]|\\\\[\"\\\\nrt]){{{},{}}}\"",
      least.empty() ? "0" : least,
      count("maxLength")));
}

std::string text_of(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling) {
  if (spelling.quote.empty()) return python_text(builder, schema);
  return builder.literal(spelling.quote) +
      builder.text(schema, {std::string(spelling.quote), false, {}});
}

std::string constant(const Json& value, const Spelling& spelling) {
  if (value.is_null()) return std::string(spelling.none);
  if (value.is_boolean())
    return std::string(value.get<bool>() ? spelling.yes : spelling.no);
  if (value.is_string() && !spelling.quote.empty())
    return fmt::format("{0}{1}{0}", spelling.quote, value.get<std::string>());
  if (!value.is_structured()) return value.dump();
  std::string out;
  for (const auto& [key, one] : value.items()) {
    if (!out.empty()) out += spelling.comma;
    if (value.is_object())
      out += (spelling.quoted_keys ? Json(key).dump() : key) +
          std::string(spelling.colon);
    out += constant(one, spelling);
  }
  return value.is_array() ? "[" + out + "]" : "{" + out + "}";
}

std::string list_of(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling) {
  auto item =
      spelled_value(builder, schema.value("items", Json::object()), spelling);
  return builder.literal("[") + builder.items(item, schema, spelling.comma) +
      builder.literal("]");
}

// Of any names, where the schema has none.
std::string open_members(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling) {
  auto more = schema.value("additionalProperties", Json::object());
  if (more == Json(false)) return "";
  auto key = builder.regex(
      spelling.quoted_keys ? "\"[A-Za-z_][A-Za-z0-9_]*\""
                           : "[A-Za-z_][A-Za-z0-9_]*");
  auto member = builder.rule(
      key + builder.literal(spelling.colon) +
      spelled_value(builder, more, spelling));
  return builder.items(member, Json::object(), spelling.comma);
}

std::string object_of(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling) {
  auto inner = properties_of(schema).empty()
      ? open_members(builder, schema, spelling)
      : spelled_members(builder, schema, spelling, spelling.colon);
  return builder.literal("{") + inner + builder.literal("}");
}

Shapes everything() {
  Shapes out;
  out.constants = {true, false, nullptr};
  out.texts = {Json{{"type", "string"}}};
  out.numbers = {Json{{"type", "number"}}};
  out.lists = {Json{{"type", "array"}}};
  out.objects = {Json{{"type", "object"}}};
  return out;
}

} // namespace

std::string spelled_value(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling) {
  return builder.once(schema, [&] {
    auto shapes = builder.shapes(schema);
    if (shapes.any) shapes = everything();
    std::string body;
    auto add = [&](const std::string& way) {
      body += (body.empty() ? "" : " |") + way;
    };
    for (const auto& value : shapes.constants)
      add(builder.literal(constant(value, spelling)));
    for (const auto& one : shapes.numbers)
      add(builder.json(one));
    for (const auto& one : shapes.texts)
      add(text_of(builder, one, spelling));
    for (const auto& one : shapes.lists)
      add(list_of(builder, one, spelling));
    for (const auto& one : shapes.objects)
      add(object_of(builder, one, spelling));
    return body;
  });
}

std::string spelled_members(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling,
    std::string_view colon) {
  std::vector<GrammarBuilder::Member> members;
  bool quoted = spelling.quoted_keys && colon == spelling.colon;
  for (const auto& property : properties_of(schema))
    members.push_back(
        {builder.literal(
             (quoted ? Json(property.key).dump() : property.key) +
             std::string(colon)) +
             spelled_value(builder, *property.schema, spelling),
         property.needed});
  return builder.members(members, spelling.comma);
}

} // namespace mlxlm::tools

// Values within values in a spelling that is no JSON: Python's, Gemma's.
#include "core/check.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

#include <optional>
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
  if (schema.contains("pattern") || schema.contains("format"))
    return builder.quoted(schema, "\"", "(.|\\n)*[\"\\\\\\n\\r](.|\\n)*");
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

// As a call has the names of arguments and, without quotes, of members.
void check_word(const std::string& key) {
  bool word = !key.empty() && word_length(key, 0) == key.size() &&
      !(key[0] >= '0' && key[0] <= '9');
  if (!word) cannot_force("a name that is no word", {{"properties", {key}}});
}

std::string constant(const Json& value, const Spelling& spelling) {
  if (value.is_null()) return std::string(spelling.none);
  if (value.is_boolean())
    return std::string(value.get<bool>() ? spelling.yes : spelling.no);
  bool marked = value.is_string() && !spelling.quote.empty();
  if (marked &&
      value.get_ref<const std::string&>().find(spelling.quote) !=
          std::string::npos)
    cannot_force("a text with the mark that ends texts", value);
  if (marked)
    return fmt::format("{0}{1}{0}", spelling.quote, value.get<std::string>());
  if (!value.is_structured()) return value.dump();
  std::string out;
  for (const auto& [key, one] : value.items()) {
    if (!out.empty()) out += spelling.comma;
    if (value.is_object() && !spelling.quoted_keys) check_word(key);
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
  auto item = [&](const Json& one) {
    return spelled_value(builder, one, spelling);
  };
  return builder.literal("[") + builder.items(schema, spelling.comma, item) +
      builder.literal("]");
}

// The name of a member that a pattern is found in.
std::string name_like(
    GrammarBuilder& builder,
    const std::string& pattern,
    const Spelling& spelling) {
  Json schema = {{"pattern", pattern}};
  if (spelling.quoted_keys)
    return builder.quoted(schema, "\"", "(.|\\n)*[\"\\\\\\n\\r](.|\\n)*");
  return builder.quoted(
      schema, "", "(.|\\n)*[^A-Za-z0-9_](.|\\n)*|([0-9](.|\\n)*)?");
}

// Of any names, where the schema has none.
std::string open_members(
    GrammarBuilder& builder,
    const Json& schema,
    const Spelling& spelling) {
  auto more = schema.value("additionalProperties", Json(true));
  auto most = schema.find("maxProperties");
  auto least = schema.value("minProperties", 0);
  // One name may come twice.
  if (least > 1) cannot_force("minProperties", schema);
  auto key = builder.regex(
      spelling.quoted_keys ? "\"[A-Za-z_][A-Za-z0-9_]*\""
                           : "[A-Za-z_][A-Za-z0-9_]*");
  if (auto named = schema.find("patternProperties"); named != schema.end()) {
    if (named->size() != 1 || more != Json(false))
      cannot_force("patternProperties beside others", schema);
    more = named->begin().value();
    key = name_like(builder, named->begin().key(), spelling);
  }
  if (more == Json(false) && least > 0) cannot_force("minProperties", schema);
  if (more == Json(false)) return "";
  auto member = builder.rule(
      key + builder.literal(spelling.colon) +
      spelled_value(builder, more, spelling));
  return builder.repeated(
      member,
      static_cast<std::size_t>(least),
      most == schema.end() ? std::nullopt
                           : std::optional(most->get<std::size_t>()),
      spelling.comma);
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
    if (body.empty()) cannot_force("nothing that is allowed", schema);
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
  for (const auto& property : properties_of(schema)) {
    if (!quoted) check_word(property.key);
    members.push_back(
        {builder.literal(
             (quoted ? Json(property.key).dump() : property.key) +
             std::string(colon)) +
             spelled_value(builder, property.schema, spelling),
         property.needed});
  }
  return builder.members(members, spelling.comma);
}

} // namespace mlxlm::tools

// Arguments between marks, one after another, their texts without quotes: each
// way that a schema allows is written so that the format's own reader gives it
// back, or behind a mark that tells its type.
#include <algorithm>
#include <optional>

#include "core/check.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

std::optional<Json> read_back(
    const MarkedArguments& marks,
    std::string_view text,
    const Json& schema) {
  try {
    return marks.read(text, &schema);
  } catch (const Error&) {
    return {};
  }
}

// As TypedArguments name it.
std::string_view json_type(const Json& value) {
  return value.is_number() ? "number" : value.type_name();
}

// How a value is written so that the reader finds it again.
std::optional<std::string> written(
    const Json& value,
    const Json& schema,
    const MarkedArguments& marks) {
  auto json = value.dump();
  auto plain = value.is_string() ? value.get<std::string>() : json;
  for (const auto& text : {plain, json})
    if (text.find(marks.value_end) == text.npos &&
        read_back(marks, text, schema) == value)
      return text;
  return {};
}

// Texts, by what the reader makes of some that look like something else.
void add_texts(
    GrammarBuilder& builder,
    const Json& text,
    const Json& schema,
    const Shapes& shapes,
    const MarkedArguments& marks,
    std::vector<std::string>& ways) {
  auto right = [&](std::string_view looks) {
    auto read = read_back(marks, looks, schema);
    return read && shapes.allows(*read);
  };
  TextRules rules{std::string(marks.value_end), marks.stripped, {}};
  if (marks.one_newline) rules.refused = {"\\n(.|\\n)*", "(.|\\n)*\\n"};
  if (!right("null")) rules.refused.emplace_back("\\s*(?i:null)\\s*");
  bool plain = true;
  for (const char* looks : {"5", "true", "[5]", "{\"a\": 5}", "\"a\"", "None"})
    plain = plain && right(looks);
  if (!plain) {
    if (read_back(marks, "\"a\"", schema) == Json("a"))
      ways.push_back(builder.json(text) + builder.literal(marks.value_end));
    for (const char* other :
         {"[^A-Za-z](.|\\n)*|\\s*",
          "\\s*(?i:true|false|null|none|nan|infinity|inf)\\s*",
          "(?i:[rbuf]{1,2})[\"'](.|\\n)*"})
      rules.refused.emplace_back(other);
  }
  ways.push_back(builder.text(text, rules));
}

} // namespace

std::string marked_value(
    GrammarBuilder& builder,
    const Json& schema,
    const Shapes& shapes,
    const MarkedArguments& marks) {
  if (shapes.any)
    return builder.text(
        Json::object(), {std::string(marks.value_end), marks.stripped, {}});
  std::vector<std::string> ways;
  for (const auto& value : shapes.constants)
    if (auto text = written(value, schema, marks))
      ways.push_back(builder.literal(*text + std::string(marks.value_end)));
  auto add = [&](const std::vector<Json>& list, std::string_view looks) {
    // A reader may take all for texts where there may be texts.
    auto right = Json::parse(looks);
    if (list.empty() || !(read_back(marks, looks, schema) == right)) return;
    for (const auto& one : list)
      ways.push_back(builder.json(one) + builder.literal(marks.value_end));
  };
  add(shapes.numbers, "5");
  add(shapes.lists, "[5]");
  add(shapes.objects, "{\"a\": 5}");
  for (const auto& text : shapes.texts)
    add_texts(builder, text, schema, shapes, marks, ways);
  if (ways.empty()) cannot_force("nothing that this model can write", schema);
  return builder.either(ways);
}

namespace {

// Names stand as they are in calls.
void check_name(const std::string& key) {
  if (key.empty() || key.find_first_of("<>\"'=\n\r") != key.npos ||
      strip(key) != key)
    cannot_force("a name that is none in a call", {{"properties", {key}}});
}

} // namespace

std::string marked_arguments(
    GrammarBuilder& builder,
    const Json& schema,
    const MarkedArguments& marks) {
  std::vector<GrammarBuilder::Member> members;
  for (const auto& property : properties_of(schema)) {
    check_name(property.key);
    auto value = marked_value(
        builder,
        builder.reading(property.key),
        builder.shapes(property.schema),
        marks);
    members.push_back(
        {builder.literal(
             std::string(marks.key_begin) + property.key +
             std::string(marks.key_end)) +
             value,
         property.needed});
  }
  return builder.members(members, "");
}

std::string typed_arguments(
    GrammarBuilder& builder,
    const Json& schema,
    const TypedArguments& marks) {
  auto end = builder.literal(marks.value_end);
  auto value = [&](const Json& one) {
    auto shapes = builder.shapes(one);
    std::vector<std::string> ways;
    auto json = [&](std::string_view type, const std::string& terms) {
      ways.push_back(builder.literal(marks.mark(type)) + terms + end);
    };
    auto text = [&](const Json& of) {
      ways.push_back(
          builder.literal(marks.mark("string")) +
          builder.text(of, {std::string(marks.value_end), false, {}}));
    };
    for (const auto& constant : shapes.constants) {
      if (constant.is_string())
        json("string", builder.literal(constant.get<std::string>()));
      else
        json(json_type(constant), builder.literal(constant.dump()));
    }
    if (shapes.any) text(Json::object());
    for (const auto& of : shapes.texts)
      text(of);
    for (const auto* list : {&shapes.numbers, &shapes.lists, &shapes.objects})
      for (const auto& of : *list)
        json(
            list == &shapes.numbers ? "number" : of["type"].get<std::string>(),
            builder.json(of));
    return builder.either(ways);
  };
  std::vector<GrammarBuilder::Member> members;
  for (const auto& property : properties_of(schema)) {
    check_name(property.key);
    members.push_back(
        {builder.literal(std::string(marks.key_begin) + property.key) +
             value(property.schema),
         property.needed});
  }
  return builder.members(members, "");
}

} // namespace mlxlm::tools

#include "text/tools/grammar.h"

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

// Text as a sequence of Lark terms: special tokens by their ids, the rest as
// strings.
std::string terms(std::string_view text, const Tokenizer& tokenizer) {
  std::string out, plain;
  auto flush = [&] {
    if (!plain.empty()) out += fmt::format(" {}", Json(plain).dump());
    plain.clear();
  };
  // Special tokens stand out once the text is cut; what is between them keeps
  // its spelling.
  std::size_t at = 0;
  for (int id : tokenizer.encode(text, {.add_special = false})) {
    if (!tokenizer.is_special(id)) continue;
    auto token = tokenizer.token(id).value_or("");
    auto place = text.find(token, at);
    if (token.empty() || place == text.npos) continue;
    plain += text.substr(at, place - at);
    flush();
    out += fmt::format(" <[{}]>", id);
    at = place + token.size();
  }
  plain += text.substr(at);
  flush();
  return out.empty() ? " \"\"" : out;
}

std::string escaped_regex(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (std::string_view("\\^$.|?*+()[]{}/-").find(c) != std::string_view::npos)
      out += '\\';
    out += c;
  }
  return out;
}

const Json& function_of(const Json& tool) {
  auto inner = tool.find("function");
  return inner != tool.end() && inner->is_object() ? *inner : tool;
}

std::string name_of(const Json& tool) {
  if (!tool.is_object()) return "";
  const auto& function = function_of(tool);
  auto name = function.find("name");
  return name != function.end() && name->is_string() ? name->get<std::string>()
                                                     : "";
}

// An object's member that is an object or list itself, else `fallback`.
Json member(const Json& object, const char* name, Json fallback) {
  auto found = object.find(name);
  return found != object.end() && found->type() == fallback.type() ? *found
                                                                   : fallback;
}

// A part of a schema with the definitions that its references need.
Json with_definitions(Json part, const Json& schema) {
  if (!part.is_object()) return part;
  for (const char* name : {"$defs", "definitions"})
    if (schema.contains(name) && !part.contains(name))
      part[name] = schema[name];
  return part;
}

// Every schema's place in the grammar is a rule of its own.
struct Builder {
  const ToolFormat& format;
  const Tokenizer& tokenizer;
  std::string rules = {};
  int count = 0;

  std::string literal(std::string_view text) {
    return text.empty() ? "" : terms(text, tokenizer);
  }

  std::string rule(const std::string& body, std::string_view attribute = "") {
    auto name = fmt::format("r{}", count++);
    rules += fmt::format("{}{}: {}\n", name, attribute, body);
    return fmt::format(" {}", name);
  }

  std::string json(const Json& schema) {
    return rule(fmt::format("%json {}", schema_with_options(schema).dump()));
  }

  // Text up to the mark behind it.
  std::string text_until(std::string_view mark) {
    return rule(fmt::format("/(.|\\n)*{}/", escaped_regex(mark)), "[lazy]");
  }

  static bool is_text(const Json& schema) {
    return schema.is_object() && schema.value("type", Json()) == "string" &&
        !schema.contains("enum");
  }

  // One argument after another in the schema's order; those that are not
  // required may be left out.
  std::string marked_arguments(const Json& schema) {
    const auto& marks = *format.arguments;
    auto required = member(schema, "required", Json::array());
    auto properties = member(schema, "properties", Json::object());
    std::string out;
    for (const auto& [key, value] : properties.items()) {
      auto one =
          literal(
              std::string(marks.key_begin) + key + std::string(marks.key_end)) +
          (is_text(value) ? text_until(marks.value_end)
                          : json(with_definitions(value, schema)) +
                   literal(marks.value_end));
      bool needed = std::find(required.begin(), required.end(), Json(key)) !=
          required.end();
      out += needed ? one : fmt::format(" ({} )?", one);
    }
    return out;
  }

  std::string call(const Json& tool) {
    auto name = name_of(tool);
    auto schema =
        member(function_of(tool), "parameters", Json{{"type", "object"}});
    const auto& s = *format.syntax;
    auto arguments = format.arguments ? marked_arguments(schema) : json(schema);
    return literal(std::string(s.begin) + name + std::string(s.middle)) +
        arguments + literal(s.end);
  }
};

} // namespace

GrammarSource tool_call_grammar(
    const ToolFormat& format,
    const Json& tools,
    const Tokenizer& tokenizer,
    std::string_view name,
    bool several) {
  if (!format.syntax)
    fail(
        ErrorKind::request,
        "tool_choice",
        "expected a model whose calls can be forced, found one that writes them "
        "as {}",
        format.name);
  Builder builder{format, tokenizer};
  std::string calls;
  for (const auto& tool : tools) {
    auto found = name_of(tool);
    if (found.empty() || (!name.empty() && found != name)) continue;
    calls += fmt::format("{}{}", calls.empty() ? "" : " |", builder.call(tool));
  }
  if (calls.empty())
    fail(
        ErrorKind::request,
        "tool_choice",
        "expected the name of a tool, found \"{}\"",
        printable(name));
  return {
      GrammarKind::lark,
      fmt::format(
          "start: call{}\ncall:{}\n{}",
          several ? "+" : "",
          calls,
          builder.rules)};
}

} // namespace mlxlm

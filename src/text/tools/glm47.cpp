// GLM-4.5 and on:
//   <tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>
// LongCat: the same with its own marks. GLM writes some other forms as well.
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

struct Marks {
  std::string_view key, key_end, value, value_end;
};
constexpr Marks glm_marks = {
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>"};
constexpr Marks longcat_marks = {
    "<longcat_arg_key>",
    "</longcat_arg_key>",
    "<longcat_arg_value>",
    "</longcat_arg_value>"};

Json typed(
    std::string_view text,
    const Json& tools,
    std::string_view function,
    std::string_view key) {
  if (is_string_argument(tools, function, key)) return std::string(text);
  return guessed(text);
}

// Keys and values in turn; white space and written "\n" may be between them.
ParsedCall marked_call(
    std::string_view text,
    const Marks& marks,
    const Json& tools) {
  auto first = text.find(marks.key);
  ParsedCall call{std::string(strip(text.substr(0, first))), Json::object()};
  std::size_t at = first;
  while (auto key = between(text, marks.key, marks.key_end, at)) {
    auto next = key->end;
    for (;;) {
      next = skip_space(text, next);
      if (!starts_with(text.substr(next), "\\n")) break;
      next += 2;
    }
    at = key->begin + 1;
    if (!starts_with(text.substr(next), marks.value)) continue;
    auto value = between(text, marks.value, marks.value_end, next);
    if (!value) continue;
    std::string name(strip(key->text));
    call.arguments[name] = typed(strip(value->text), tools, call.name, name);
    at = value->end;
  }
  return call;
}

Json normalized(
    const Json& arguments,
    const Json& tools,
    const std::string& name) {
  Json out = Json::object();
  for (const auto& [key, value] : arguments.items()) {
    if (value.is_string()) {
      out[key] = typed(value.get_ref<const std::string&>(), tools, name, key);
    } else {
      out[key] =
          is_string_argument(tools, name, key) ? Json(value.dump()) : value;
    }
  }
  return out;
}

// {"name": …, "arguments": …}, {"function": …, "arguments": …}, {"tool": {…}}.
std::optional<ParsedCall> json_form(std::string_view text, const Json& tools) {
  auto parsed = json_value(strip(text));
  if (parsed && parsed->is_array() && !parsed->empty() &&
      (*parsed)[0].is_object())
    parsed = Json((*parsed)[0]);
  if (!parsed || !parsed->is_object()) return {};
  Json name, arguments;
  if (parsed->contains("name") && parsed->contains("arguments")) {
    name = (*parsed)["name"], arguments = (*parsed)["arguments"];
  } else if (parsed->contains("function") && parsed->contains("arguments")) {
    name = (*parsed)["function"], arguments = (*parsed)["arguments"];
  } else if (parsed->contains("tool") && (*parsed)["tool"].is_object()) {
    name = (*parsed)["tool"].value("name", Json());
    arguments = (*parsed)["tool"].value("arguments", Json());
  }
  if (name.is_object()) {
    if (arguments.is_null() || arguments.empty())
      arguments = name.value("arguments", Json());
    name = Json(name.value("name", Json()));
  }
  if (arguments.is_string()) arguments = guessed(arguments.get<std::string>());
  if (!name.is_string()) return {};
  auto function = name.get<std::string>();
  if (arguments.is_null()) return ParsedCall{function, Json::object()};
  if (!arguments.is_object()) return {};
  return ParsedCall{function, normalized(arguments, tools, function)};
}

// Words as a shell splits them; nothing for an open quote.
std::optional<std::vector<std::string>> shell_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool any = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quote) {
      if (c == quote) {
        quote = 0;
      } else if (
          c == '\\' && quote == '"' && i + 1 < text.size() &&
          (text[i + 1] == '"' || text[i + 1] == '\\')) {
        word += text[++i];
      } else {
        word += c;
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
      any = true;
    } else if (c == '\\') {
      if (++i == text.size()) return {};
      word += text[i];
      any = true;
    } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      if (any) words.push_back(std::exchange(word, {}));
      any = false;
    } else {
      word += c;
      any = true;
    }
  }
  if (quote) return {};
  if (any) words.push_back(word);
  return words;
}

std::optional<Json> key_values(
    std::string_view text,
    const std::string& function,
    const Json& tools) {
  auto words = shell_words(text);
  if (!words || words->empty()) return {};
  Json out = Json::object();
  for (const auto& word : *words) {
    auto equals = word.find('=');
    if (equals == word.npos) return {};
    std::string key(strip(word.substr(0, equals)));
    if (key.empty()) return {};
    out[key] = typed(word.substr(equals + 1), tools, function, key);
  }
  return out;
}

// "f {...}", "f\n{...}", "f a=1 b=2", "f".
std::optional<ParsedCall> plain_form(std::string_view text, const Json& tools) {
  auto stripped = strip(text);
  if (stripped.empty()) return {};
  for (char separator : {'\n', ' '}) {
    auto cut = stripped.find(separator);
    std::string name(strip(stripped.substr(0, cut)));
    auto rest = cut == stripped.npos ? "" : strip(stripped.substr(cut + 1));
    if (separator == '\n' && (rest.empty() || name.empty())) continue;
    if (name.empty()) return {};
    if (rest.empty()) return ParsedCall{name, Json::object()};
    auto arguments = guessed(rest);
    if (arguments.is_object())
      return ParsedCall{name, normalized(arguments, tools, name)};
    if (separator == '\n') continue;
    if (auto pairs = key_values(rest, name, tools))
      return ParsedCall{name, *pairs};
    return ParsedCall{name, {{"raw", std::string(rest)}}};
  }
  return {};
}

std::vector<ParsedCall> parse_glm(std::string_view payload, const Json& tools) {
  if (payload.find(glm_marks.key) != payload.npos)
    return {marked_call(payload, glm_marks, tools)};
  if (auto call = json_form(payload, tools)) return {*call};
  if (auto call = plain_form(payload, tools)) return {*call};
  return {ParsedCall{"unknown", {{"raw", std::string(strip(payload))}}}};
}

std::vector<ParsedCall> parse_longcat(
    std::string_view payload,
    const Json& tools) {
  auto text = strip(payload);
  if (starts_with(text, "{") && json_value(text))
    return json_calls(text, "LongCat");
  if (text.find(longcat_marks.key) == text.npos) no_call("LongCat", payload);
  return {marked_call(text, longcat_marks, tools)};
}

constexpr CallSyntax glm47_syntax = {"<tool_call>", "\n", "</tool_call>"};
Json read(std::string_view text, const Json* schema) {
  text = strip(text);
  if (schema->value("type", Json()) == "string") return std::string(text);
  return guessed(text);
}

std::string glm47_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder,
      schema,
      {"<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n", read, true});
}

constexpr CallSyntax longcat_syntax = {
    "<longcat_tool_call>",
    "\n",
    "</longcat_tool_call>"};
std::string longcat_arguments(GrammarBuilder& builder, const Json& schema) {
  return marked_arguments(
      builder,
      schema,
      {"<longcat_arg_key>",
       "</longcat_arg_key>\n<longcat_arg_value>",
       "</longcat_arg_value>\n",
       read,
       true});
}

} // namespace

const ToolFormat glm47 = {
    .name = "glm47",
    .open = "<tool_call>",
    .close = "</tool_call>",
    .parse = parse_glm,
    .syntax = &glm47_syntax,
    .arguments = glm47_arguments};
const ToolFormat longcat = {
    .name = "longcat",
    .open = "<longcat_tool_call>",
    .close = "</longcat_tool_call>",
    .parse = parse_longcat,
    .syntax = &longcat_syntax,
    .arguments = longcat_arguments};

} // namespace mlxlm::tools

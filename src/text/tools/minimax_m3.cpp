// MiniMax M3: elements named like the arguments, every tag behind a mark:
//   ]<]minimax[>[<invoke name="f">]<]minimax[>[<a>1]<]minimax[>[</a>
//   ]<]minimax[>[</invoke>
// Elements in elements are objects; lists have <item> or the same tag again.
#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

constexpr std::string_view mark = "]<]minimax[>[";
constexpr int most_depth = 32;

std::string kind_of(std::string word) {
  word = lower(strip(word));
  auto begins = [&](auto... beginnings) {
    return (starts_with(word, beginnings) || ...);
  };
  auto is = [&](auto... words) { return ((word == words) || ...); };
  if (begins("int", "uint", "long", "short", "unsigned")) return "integer";
  if (begins("num", "float") || is("double")) return "number";
  if (begins("dict") || is("map")) return "object";
  if (begins("list") || is("arr", "sequence")) return "array";
  if (is("str", "text", "varchar", "char", "enum")) return "string";
  if (is("bool", "binary")) return "boolean";
  return word;
}

// The kinds of value that a schema allows, in its order.
std::vector<std::string> kinds_of(const Json* schema, int depth = 0) {
  std::vector<std::string> kinds;
  if (!schema || !schema->is_object() || depth > most_depth) return kinds;
  if (auto type = schema->find("type"); type != schema->end()) {
    if (type->is_string()) kinds.push_back(kind_of(type->get<std::string>()));
    if (type->is_array())
      for (const auto& one : *type)
        if (one.is_string()) kinds.push_back(kind_of(one.get<std::string>()));
  }
  bool composed = false;
  for (const char* key : {"anyOf", "oneOf"}) {
    auto options = schema->find(key);
    if (!kinds.empty() || options == schema->end() || !options->is_array())
      continue;
    composed = true;
    for (const auto& option : *options)
      for (auto& kind : kinds_of(&option, depth + 1))
        kinds.push_back(std::move(kind));
  }
  if (!kinds.empty()) return kinds;
  if (composed) return {"object"};
  if (schema->contains("enum")) return {"string"};
  if (schema->contains("items")) return {"array"};
  if (schema->contains("properties") ||
      schema->contains("additionalProperties"))
    return {"object"};
  return {};
}

bool allows(const Json* schema, std::string_view kind) {
  auto kinds = kinds_of(schema);
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

const Json* member(const Json* schema, const char* key) {
  auto found = schema->find(key);
  return found != schema->end() && found->is_object() ? &*found : nullptr;
}

const Json* property(const Json* schema, const std::string& name) {
  if (!allows(schema, "object")) return nullptr;
  if (const auto* all = member(schema, "properties"))
    if (auto found = all->find(name); found != all->end()) return &*found;
  return member(schema, "additionalProperties");
}

// The text as the first of the schema's kinds that it can be.
std::optional<Json> by_schema(std::string_view text, const Json* schema) {
  if (!schema || !schema->is_object()) return {};
  if (lower(text) == "null") return Json();
  for (const auto& kind : kinds_of(schema)) {
    std::optional<Json> value;
    if (kind == "string") return Json(std::string(text));
    if (kind == "integer") value = python_int(text);
    if (kind == "number") {
      value = json_value(text);
      if (!value) value = python_number(text);
    }
    if (kind == "boolean") {
      auto word = lower(text);
      if (word == "true" || word == "1") return Json(true);
      if (word == "false" || word == "0") return Json(false);
    }
    if (kind == "object" || kind == "array") {
      auto empty = kind == "object" ? Json::object() : Json::array();
      value = text.empty() ? empty : json_value(text);
      if (value && value->type() != empty.type()) value.reset();
    }
    if (value) return value;
  }
  return {};
}

struct Node {
  std::string tag, text;
  std::vector<Node> children;
};

Json scalar(std::string_view text, const Json* schema, bool typed) {
  text = strip(text);
  if (auto value = by_schema(text, schema)) return *value;
  if (typed && lower(text) == "null") return nullptr;
  auto value = typed || text.empty() ? std::nullopt : json_value(text);
  return value ? *value : Json(std::string(text));
}

Json value_of(const Node& node, const Json* schema, bool typed);

// Tags that come again make a list.
Json object_of(const std::vector<Node>& nodes, const Json* schema, bool typed) {
  Json out = Json::object();
  std::vector<std::string> lists;
  for (const auto& node : nodes) {
    auto value = value_of(
        node,
        property(schema, node.tag),
        typed || (schema && schema->is_object()));
    if (!out.contains(node.tag)) {
      out[node.tag] = std::move(value);
      continue;
    }
    if (std::find(lists.begin(), lists.end(), node.tag) == lists.end()) {
      out[node.tag] = Json::array({Json(out[node.tag])});
      lists.push_back(node.tag);
    }
    out[node.tag].push_back(std::move(value));
  }
  return out;
}

Json value_of(const Node& node, const Json* schema, bool typed) {
  if (node.children.empty())
    return fitted(scalar(node.text, schema, typed), node.text, schema);
  auto children = node.children;
  if (!strip(node.text).empty()) {
    std::string tag = "$text";
    auto taken = [&](const Node& child) { return child.tag == tag; };
    while (std::any_of(node.children.begin(), node.children.end(), taken))
      tag.insert(0, 1, '$');
    children.push_back({tag, node.text, {}});
  }
  bool known = typed || (schema && schema->is_object());
  bool items = std::all_of(children.begin(), children.end(), [](auto& child) {
    return child.tag == "item";
  });
  bool list = allows(schema, "array");
  if (!list && allows(schema, "object"))
    return object_of(children, schema, true);
  if (!list && !items) return object_of(children, schema, typed);
  Json out = Json::array();
  for (const auto& child : children)
    out.push_back(value_of(
        child, list ? member(schema, "items") : nullptr, list && known));
  return out;
}

// The element that begins at `at`, which moves behind it. Throws.
Node element(std::string_view text, std::size_t& at, int depth) {
  auto open = at + mark.size() + 1;
  auto close = text.find('>', open);
  if (depth > most_depth || close == text.npos) no_call("MiniMax M3", text);
  Node node{std::string(text.substr(open, close - open)), "", {}};
  if (word_length(node.tag, 0, ":.$-") != node.tag.size() || node.tag.empty())
    no_call("MiniMax M3", text);
  auto end = fmt::format("{}</{}>", mark, node.tag);
  for (at = close + 1;;) {
    auto next = text.find(mark, at);
    if (next == text.npos) no_call("MiniMax M3", text);
    node.text += text.substr(at, next - at);
    at = next;
    auto rest = text.substr(at);
    if (starts_with(rest, end)) {
      at += end.size();
      return node;
    }
    auto tag = rest.substr(mark.size());
    if (!starts_with(tag, "<") || starts_with(tag, "</"))
      no_call("MiniMax M3", text);
    node.children.push_back(element(text, at, depth + 1));
  }
}

std::vector<Node> elements(std::string_view body) {
  std::vector<Node> nodes;
  std::size_t at = 0;
  while ((at = skip_space(body, at)) < body.size()) {
    auto rest = body.substr(at);
    if (!starts_with(rest, mark)) break;
    auto tag = rest.substr(mark.size());
    if (!starts_with(tag, "<") || starts_with(tag, "</"))
      no_call("MiniMax M3", body);
    nodes.push_back(element(body, at, 0));
  }
  return nodes;
}

std::string name_in(std::string_view attributes) {
  auto at = attributes.find("name");
  if (at == attributes.npos) return "";
  at = skip_space(attributes, at + 4);
  if (at >= attributes.size() || attributes[at] != '=') return "";
  auto value = attributes.substr(skip_space(attributes, at + 1));
  auto quote = value.substr(0, 1);
  if (quote == "\"" || quote == "'") {
    auto text = between(value, quote, quote);
    return text ? std::string(text->text) : "";
  }
  std::size_t size = 0;
  while (size < value.size() && skip_space(value, size) == size)
    ++size;
  return std::string(value.substr(0, size));
}

const Json* parameters_of(const Json& tools, std::string_view name) {
  if (!tools.is_array()) return nullptr;
  for (const auto& tool : tools) {
    if (!tool.is_object()) continue;
    const auto* inner = member(&tool, "function");
    const auto& function = inner ? *inner : tool;
    if (function.value("name", Json()) == Json(std::string(name)))
      return member(&function, "parameters");
  }
  return nullptr;
}

std::vector<ParsedCall> parse(std::string_view payload, const Json& tools) {
  auto open = fmt::format("{}<invoke", mark);
  auto close = fmt::format("{}</invoke>", mark);
  std::vector<ParsedCall> calls;
  for (const auto& span : all_between(payload, open, close)) {
    auto end = span.text.find('>');
    if (end == span.text.npos) no_call("MiniMax M3", payload);
    auto name = name_in(span.text.substr(0, end));
    if (name.empty()) no_call("MiniMax M3", payload);
    const auto* schema = parameters_of(tools, name);
    bool typed = schema || (tools.is_array() && !tools.empty());
    calls.push_back(
        {name, object_of(elements(span.text.substr(end + 1)), schema, typed)});
  }
  if (calls.empty()) no_call("MiniMax M3", payload);
  return calls;
}

constexpr CallSyntax syntax = {
    "]<]minimax[>[<tool_call>]<]minimax[>[<invoke name=\"",
    "\">",
    "]<]minimax[>[</invoke>]<]minimax[>[</tool_call>"};

Json read(std::string_view text, const Json* schema) {
  return fitted(scalar(text, schema, true), text, schema);
}

std::string members_of(GrammarBuilder& builder, const Json& schema);

// Whether the reader finds the types of all values in elements by itself: it
// follows no references and looks at no beginnings of lists.
bool is_told_by_elements(const Json& schema) {
  if (!schema.is_object() || !schema.contains("type") ||
      !schema["type"].is_string())
    return false;
  for (const char* key :
       {"$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "prefixItems",
        "patternProperties",
        "const"})
    if (schema.contains(key)) return false;
  if (schema.contains("enum") && schema["type"] != "string") return false;
  if (schema.contains("items") && !is_told_by_elements(schema["items"]))
    return false;
  auto all = schema.find("properties");
  if (all == schema.end()) return true;
  for (const auto& [key, value] : all->items()) {
    bool word = !key.empty() && word_length(key, 0, ":.$-") == key.size();
    if (!word || key == "item" || !is_told_by_elements(value)) return false;
  }
  return true;
}

// What an element has up to its end. `reading`: the schema as its reader has
// it.
std::string inner_of(
    GrammarBuilder& builder,
    const Json& schema,
    const Json& reading) {
  return builder.once(schema, [&] {
    auto shapes = builder.shapes(schema);
    bool told = is_told_by_elements(reading);
    std::string elements;
    auto add = [&](const std::string& way) { elements += way + " |"; };
    std::erase_if(shapes.objects, [&](const Json& one) {
      bool known = told && !properties_of(one).empty();
      if (known) add(members_of(builder, one) + builder.literal(mark));
      return known;
    });
    std::erase_if(shapes.lists, [&](const Json& one) {
      bool known = told && one.contains("items");
      if (known)
        add(builder.items(one, "", [&](const Json& item) {
          return builder.rule(
              builder.literal(fmt::format("{}<item>", mark)) +
              inner_of(builder, item, item) + builder.literal("</item>"));
        }) + builder.literal(mark));
      return known;
    });
    bool left = shapes.any || !shapes.constants.empty() ||
        !shapes.texts.empty() || !shapes.numbers.empty() ||
        !shapes.lists.empty() || !shapes.objects.empty();
    if (!left) return elements.substr(0, elements.size() - 2);
    return elements +
        marked_value(builder, reading, shapes, {"", "", mark, read, true});
  });
}

std::string elements_of(
    GrammarBuilder& builder,
    const Json& schema,
    bool arguments) {
  std::vector<GrammarBuilder::Member> members;
  for (const auto& property : properties_of(schema)) {
    const auto& reading =
        arguments ? builder.reading(property.key) : property.schema;
    members.push_back(
        {builder.literal(fmt::format("{}<{}>", mark, property.key)) +
             inner_of(builder, property.schema, reading) +
             builder.literal(fmt::format("</{}>", property.key)),
         property.needed});
  }
  return builder.members(members, "");
}

std::string members_of(GrammarBuilder& builder, const Json& schema) {
  return elements_of(builder, schema, false);
}

std::string arguments_of(GrammarBuilder& builder, const Json& schema) {
  return elements_of(builder, schema, true);
}

} // namespace

const ToolFormat minimax_m3 = {
    .name = "minimax_m3",
    .open = "]<]minimax[>[<tool_call>",
    .close = "]<]minimax[>[</tool_call>",
    .parse = parse,
    .syntax = &syntax,
    .arguments = arguments_of};

} // namespace mlxlm::tools

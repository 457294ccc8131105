#include "text/tools/grammar_builder.h"

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "text/grammar.h"
#include "text/tools/text_patterns.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// A regular expression between slashes.
std::string slashed(std::string_view expression) {
  std::string out = "/";
  for (std::size_t i = 0; i < expression.size(); ++i) {
    char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      out += c;
      out += expression[++i];
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '/') {
      out += "\\/";
    } else {
      out += c;
    }
  }
  return out + "/";
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-").find(c) != std::string_view::npos)
      out += '\\';
    out += c;
  }
  return out;
}

std::optional<std::size_t> count_in(const Json& schema, const char* name) {
  auto found = schema.find(name);
  if (found == schema.end() || !found->is_number_integer() || *found < 0)
    return {};
  return found->get<std::size_t>();
}

std::string range(const Json& schema, const char* least, const char* most) {
  auto high = count_in(schema, most);
  return fmt::format(
      "{{{},{}}}",
      count_in(schema, least).value_or(0),
      high ? std::to_string(*high) : "");
}

constexpr const char* arguments_name = "all_arguments";

// References to other places than definitions begin at this name from here on;
// whether there were any.
bool move_references(Json& schema) {
  if (schema.is_array()) {
    bool any = false;
    for (auto& one : schema)
      any = move_references(one) || any;
    return any;
  }
  if (!schema.is_object()) return false;
  bool any = false;
  for (auto& [key, value] : schema.items()) {
    if (key != "$ref" || !value.is_string()) {
      any = move_references(value) || any;
      continue;
    }
    const auto& text = value.get_ref<const std::string&>();
    if (!starts_with(text, "#") || starts_with(text, "#/$defs/") ||
        starts_with(text, "#/definitions/"))
      continue;
    value = fmt::format("#/$defs/{}{}", arguments_name, text.substr(1));
    any = true;
  }
  return any;
}

} // namespace

void GrammarBuilder::begin(const Json& root, const Json& reader) {
  root_ = root;
  reader_ = reader;
  made_.clear();
}

const Json& GrammarBuilder::reading(const std::string& key) const {
  auto all = reader_.find("properties");
  if (all != reader_.end() && all->is_object())
    if (auto found = all->find(key); found != all->end()) return *found;
  cannot_force(
      fmt::format("\"{}\", which is not among the properties,", key), root_);
}

std::string GrammarBuilder::literal(std::string_view text) const {
  if (text.empty()) return "";
  std::string out, plain;
  auto flush = [&] {
    if (!plain.empty()) out += fmt::format(" {}", Json(plain).dump());
    plain.clear();
  };
  // Special tokens stand out once the text is cut; what is between them keeps
  // its spelling.
  std::size_t at = 0;
  for (int id : tokenizer_.encode(text, {.add_special = false})) {
    if (!tokenizer_.is_special(id)) continue;
    auto token = tokenizer_.token(id).value_or("");
    auto place = text.find(token, at);
    if (token.empty() || place == text.npos) continue;
    plain += text.substr(at, place - at);
    flush();
    out += fmt::format(" <[{}]>", id);
    at = place + token.size();
  }
  plain += text.substr(at);
  flush();
  return out;
}

std::string GrammarBuilder::rule(
    const std::string& body,
    std::string_view attribute) {
  auto name = fmt::format("r{}", count_++);
  rules_ += fmt::format("{}{}:{}\n", name, attribute, body);
  return " " + name;
}

std::string GrammarBuilder::regex(std::string_view expression) {
  auto name = fmt::format("T{}", count_++);
  rules_ += fmt::format("{}: {}\n", name, slashed(expression));
  return " " + name;
}

std::string GrammarBuilder::json(Json schema) {
  if (schema.is_object()) {
    for (const char* name : {"$defs", "definitions"})
      if (root_.contains(name) && !schema.contains(name))
        schema[name] = root_[name];
    // References from the root: it goes along.
    if (!move_references(schema)) return terms_of(schema);
    auto whole = root_;
    move_references(whole);
    schema["$defs"][arguments_name] = std::move(whole);
  }
  return terms_of(schema);
}

std::string GrammarBuilder::terms_of(const Json& schema) {
  return rule(fmt::format(" %json {}", schema_with_options(schema).dump()));
}

std::string GrammarBuilder::either(const std::vector<std::string>& ways) {
  if (ways.size() == 1) return ways[0];
  std::string body;
  for (const auto& way : ways)
    body += (body.empty() ? "" : " |") + (way.empty() ? " \"\"" : way);
  return rule(body);
}

// What a text must be as a whole, by its schema; nothing: anything.
std::string GrammarBuilder::wanted(const Json& schema) const {
  std::string out;
  auto add = [&](const std::string& expression) {
    out += (out.empty() ? "" : " & ") + slashed(expression);
  };
  auto size = range(schema, "minLength", "maxLength");
  if (size != "{0,}") add("(.|\\n)" + size);
  auto word = [&](const char* name) -> const std::string* {
    auto found = schema.find(name);
    if (found == schema.end()) return nullptr;
    if (!found->is_string()) cannot_force(name, schema);
    return &found->get_ref<const std::string&>();
  };
  if (const auto* pattern = word("pattern")) add(searched(*pattern, schema));
  if (const auto* format = word("format")) add(of_format(*format, schema));
  return out;
}

std::string GrammarBuilder::text(const Json& schema, const TextRules& rules) {
  auto whole = wanted(schema);
  bool bounded = !whole.empty();
  if (!bounded) whole = slashed("(.|\\n)*");
  auto no = [&](std::string_view expression) {
    whole += fmt::format(" & ~{}", slashed(expression));
  };
  if (rules.stripped && bounded) {
    no("\\s(.|\\n)*");
    no("(.|\\n)*\\s");
  }
  for (const auto& refused : rules.refused)
    no(refused);
  // A text ends where its mark begins: readers look for that without the white
  // space around it.
  no(fmt::format("(.|\\n)*{}(.|\\n)*", escaped(strip(rules.end))));
  // Special tokens are no text.
  auto end = literal(rules.end);
  if (end.find("<[") == end.npos)
    return rule(
        fmt::format(" ({}) {}", whole, Json(rules.end).dump()), "[lazy]");
  auto name = fmt::format("T{}", count_++);
  rules_ += fmt::format("{}: ({}) & /(.|\\n)+/\n", name, whole);
  bool empty = !bounded ||
      (count_in(schema, "minLength").value_or(0) == 0 &&
       !schema.contains("pattern") && !schema.contains("format"));
  return empty ? fmt::format(" ({})?{}", name, end) : " " + name + end;
}

std::string GrammarBuilder::quoted(
    const Json& schema,
    std::string_view quote,
    std::string_view refused) {
  auto inner = fmt::format("T{}", count_++),
       whole = fmt::format("T{}", count_++);
  auto expression = wanted(schema);
  rules_ += fmt::format(
      "{}: ({}{}~{})\n",
      inner,
      expression,
      expression.empty() ? "" : " & ",
      slashed(refused));
  if (quote.empty()) return fmt::format(" {}", inner);
  rules_ += fmt::format("{0}: {1} {2} {1}\n", whole, Json(quote).dump(), inner);
  return fmt::format(" {}", whole);
}

// N_i: nothing has come before; S_i: something has.
std::string GrammarBuilder::members(
    const std::vector<Member>& all,
    std::string_view between) {
  std::string fresh, behind; // what comes from member i on
  if (between.empty()) {
    for (const auto& one : all)
      fresh += one.needed ? one.terms : fmt::format(" ({} )?", one.terms);
    return fresh;
  }
  auto comma = literal(between);
  for (std::size_t i = all.size(); i-- > 0;) {
    auto item = rule(all[i].terms);
    std::vector<std::string> first = {item + behind},
                             later = {comma + item + behind};
    if (!all[i].needed) {
      first.push_back(fresh);
      later.push_back(behind);
    }
    fresh = either(first);
    behind = either(later);
  }
  return fresh;
}

std::string GrammarBuilder::repeated(
    const std::string& item,
    std::size_t least,
    std::optional<std::size_t> most,
    std::string_view between) {
  if (most && *most == 0) return "";
  if (most && *most < least) cannot_force("bounds that do not meet", root_);
  auto some = fmt::format(
      "{} ({}{} ){{{},{}}}",
      item,
      literal(between),
      item,
      least - std::min<std::size_t>(least, 1),
      most ? std::to_string(*most - 1) : "");
  return least > 0 ? rule(some) : either({rule(some), ""});
}

std::string GrammarBuilder::items(
    const Json& list,
    std::string_view between,
    const std::function<std::string(const Json& schema)>& make) {
  auto least = count_in(list, "minItems").value_or(0);
  auto most = count_in(list, "maxItems");
  auto first = listed_items(list, most.value_or(least + 4096));
  auto rest = list.find("items");
  const Json any = Json::object();
  const auto& more = rest == list.end() || *rest == Json(true) ? any : *rest;
  if (more == Json(false))
    most = std::min(most.value_or(first.size()), first.size());
  auto count = first.size();
  if (most && *most < least) cannot_force("bounds that do not meet", list);
  auto left = [&](std::size_t n) { return n - std::min(n, count); };
  std::string tail; // what comes behind item i, its comma before it
  if (!most || *most > count) {
    auto some = [&](std::size_t low) {
      auto high = most ? std::optional(left(*most)) : std::nullopt;
      return repeated(make(more), low, high, between);
    };
    if (count == 0 || between.empty())
      tail = some(left(least));
    else if (left(least) > 0)
      tail = literal(between) + some(left(least));
    else
      tail = optional(literal(between) + some(1));
  }
  for (auto i = count; i-- > 0;) {
    tail = (i > 0 ? literal(between) : "") + make(*first[i]) + tail;
    if (i >= least) tail = optional(tail);
  }
  return tail;
}

std::string GrammarBuilder::optional(const std::string& terms) {
  return either({rule(terms), ""});
}

} // namespace mlxlm::tools

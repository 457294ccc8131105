#include "text/tools/text_patterns.h"

#include <vector>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/grammar_builder.h"

namespace mlxlm::tools {
namespace {

// The alternatives of an expression.
std::vector<std::string> alternatives(std::string_view pattern) {
  std::vector<std::string> out(1);
  int depth = 0;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      out.back() += c;
      c = pattern[++i];
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
    } else if (c == '(') {
      ++depth;
    } else if (c == ')') {
      --depth;
    } else if (c == '|' && depth == 0) {
      out.emplace_back();
      continue;
    }
    out.back() += c;
  }
  return out;
}

// Classes of ASCII only, as JSON schemas mean them. Places other than the ends
// of an alternative cannot be asked for.
std::string ascii_classes(std::string_view pattern, const Json& schema) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i], next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\' && (next == 'd' || next == 'w')) {
      std::string_view set = next == 'd' ? "0-9" : "A-Za-z0-9_";
      out += in_class ? std::string(set) : fmt::format("[{}]", set);
      ++i;
      continue;
    }
    bool place = c == '\\' ? next == 'b' || next == 'B' : c == '^' || c == '$';
    if (place && !in_class)
      cannot_force("a pattern with ^, $ or \\b within", schema);
    if (c == '[' && !in_class) {
      in_class = true;
      out += c;
      if (next == '^') out += pattern[++i];
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
    if (c == '\\' && next) out += pattern[++i];
  }
  return out;
}

// Behind an odd number of backslashes.
bool ends_escaped(std::string_view text) {
  auto last = text.find_last_not_of('\\');
  return (text.size() - (last == text.npos ? 0 : last + 1)) % 2 == 1;
}

} // namespace

std::string searched(std::string_view pattern, const Json& schema) {
  std::string out;
  for (const auto& way : alternatives(pattern)) {
    std::string_view inner = way;
    bool from = starts_with(inner, "^");
    if (from) inner.remove_prefix(1);
    bool to = ends_with(inner, "$") &&
        !ends_escaped(inner.substr(0, inner.size() - 1));
    if (to) inner.remove_suffix(1);
    out += fmt::format(
        "{}{}({}){}",
        out.empty() ? "" : "|",
        from ? "" : "(.|\\n)*",
        ascii_classes(inner, schema),
        to ? "" : "(.|\\n)*");
  }
  return out;
}

std::string of_format(const std::string& name, const Json& schema) {
  const std::string date =
      "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|"
      "(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
  const std::string time =
      "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"
      "([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
  const std::string label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  const std::string host = fmt::format("{0}(\\.{0})*", label);
  const std::string byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  if (name == "date") return date;
  if (name == "time") return time;
  if (name == "date-time") return fmt::format("{}T{}", date, time);
  if (name == "duration")
    return "P([0-9]+W|([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)"
           "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?|"
           "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))";
  if (name == "uuid")
    return "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
  if (name == "email")
    return fmt::format(
        "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@{0}(\\.{0})+", label);
  if (name == "hostname") return host;
  if (name == "ipv4") return fmt::format("({0}\\.){{3}}{0}", byte);
  if (name == "ipv6") {
    std::string group = "[0-9a-fA-F]{1,4}";
    auto out = fmt::format("({0}:){{7}}{0}", group);
    for (int left = 0; left < 7; ++left) {
      auto before =
          left == 0 ? "" : fmt::format("{0}(:{0}){{{1}}}", group, left - 1);
      out += fmt::format(
          "|{}::({}(:{}){{0,{}}})?", before, group, group, 6 - left);
    }
    return out;
  }
  if (name == "uri")
    return fmt::format(
        "[A-Za-z][A-Za-z0-9+.-]*://{}(:[0-9]{{1,5}})?"
        "(/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*(\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
        "(#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?",
        host);
  cannot_force(fmt::format("the format \"{}\"", name), schema);
}

} // namespace mlxlm::tools

#include "core/json.h"

#include <set>
#include <vector>

#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

// Builds the document while checking what nlohmann does not: depth, duplicates.
class Guard : public nlohmann::detail::json_sax_dom_parser<Json> {
  using Base = nlohmann::detail::json_sax_dom_parser<Json>;

 public:
  Guard(
      Json& root,
      std::string_view where,
      ErrorKind kind,
      const JsonLimits& limits)
      : Base(root, false), where_(where), kind_(kind), limits_(limits) {}

  bool start_object(std::size_t n) {
    enter();
    if (!limits_.duplicate_keys) keys_.emplace_back();
    return Base::start_object(n);
  }
  bool end_object() {
    --depth_;
    if (!limits_.duplicate_keys) keys_.pop_back();
    return Base::end_object();
  }
  bool start_array(std::size_t n) {
    enter();
    return Base::start_array(n);
  }
  bool end_array() {
    --depth_;
    return Base::end_array();
  }
  bool key(std::string& name) {
    if (!limits_.duplicate_keys && !keys_.back().insert(name).second)
      fail(
          kind_,
          where_,
          "expected each key once, found \"{}\" twice",
          printable(name));
    return Base::key(name);
  }
  bool parse_error(
      std::size_t position,
      const std::string& token,
      const nlohmann::detail::exception&) {
    fail(
        kind_,
        where_,
        "expected JSON, found a syntax error at byte {} near \"{}\"",
        position,
        printable(token, 40));
  }

 private:
  void enter() {
    if (++depth_ > limits_.depth)
      fail(
          kind_,
          where_,
          "expected at most {} levels of nesting, found more",
          limits_.depth);
  }

  std::string_view where_;
  ErrorKind kind_;
  const JsonLimits& limits_;
  std::size_t depth_ = 0;
  std::vector<std::set<std::string>> keys_;
};

// Python's json module writes NaN and infinities bare; JSON spelling for them.
std::string quote_nonfinite(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      out += c;
      if (c == '\\' && i + 1 < text.size())
        out += text[++i];
      else if (c == '"')
        in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    bool matched = false;
    for (std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (text.substr(i, word.size()) == word) {
        out += fmt::format("{{\"__float__\":\"{}\"}}", word);
        i += word.size() - 1;
        matched = true;
        break;
      }
    }
    if (!matched) out += c;
  }
  return out;
}

} // namespace

Json parse_json(
    std::string_view text,
    std::string_view where,
    ErrorKind kind,
    const JsonLimits& limits) {
  if (text.size() > limits.bytes)
    fail(
        kind,
        where,
        "expected at most {} bytes of JSON, found {}",
        limits.bytes,
        text.size());
  std::string quoted;
  if (limits.nonfinite) {
    quoted = quote_nonfinite(text);
    text = quoted;
  }
  Json root;
  Guard guard(root, where, kind, limits);
  Json::sax_parse(text.begin(), text.end(), &guard);
  return root;
}

Json read_json(const std::string& path, const JsonLimits& limits) {
  return parse_json(
      read_file(path, limits.bytes),
      file_name(path),
      ErrorKind::config,
      limits);
}

std::string describe(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

} // namespace mlxlm

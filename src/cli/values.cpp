#include "cli/values.h"

#include <charconv>
#include <cmath>
#include <locale>
#include <sstream>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

template <typename... Args>
[[noreturn]] void misuse(fmt::format_string<Args...> text, Args&&... args) {
  throw UsageError(fmt::format(text, std::forward<Args>(args)...));
}

template <typename T>
T to_integer(const std::string& text) {
  T value{};
  auto begin = text.data(), end = begin + text.size();
  auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc{} || stop != end) throw std::invalid_argument(text);
  return value;
}

// Not from_chars: libc++ lacks it for floating point.
double to_number(const std::string& text) {
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  double value = 0;
  if (!(in >> value) || in.peek() != std::istringstream::traits_type::eof())
    throw std::invalid_argument(text);
  return value;
}

double checked_number(const Setting& s, const std::string& text) {
  if (s.kind == Kind::number) return to_number(text);
  return starts_with(text, "-") ? double(to_integer<std::int64_t>(text))
                                : double(to_integer<std::uint64_t>(text));
}

std::string range_text(const Setting& s) {
  auto kind = s.kind == Kind::integer ? "an integer" : "a number";
  bool low = std::isfinite(s.low), high = std::isfinite(s.high);
  if (low && high) return fmt::format("{} from {} to {}", kind, s.low, s.high);
  if (low) return fmt::format("{} of at least {}", kind, s.low);
  return kind;
}

bool to_bool(const std::string& text) {
  auto word = lower_ascii(text);
  if (word == "true" || word == "t" || word == "1" || word == "yes")
    return true;
  if (word == "false" || word == "f" || word == "0" || word == "no")
    return false;
  throw std::invalid_argument(text);
}

void check_number(const Setting& s, const std::string& text, auto origin) {
  double value = 0;
  try {
    value = checked_number(s, text);
    if (!(value >= s.low && value <= s.high)) throw std::out_of_range(text);
  } catch (const std::logic_error&) {
    misuse(
        "{}: expected {}, found \"{}\"",
        origin,
        range_text(s),
        printable(text));
  }
}

void check_choice(const Setting& s, const std::string& text, auto origin) {
  auto choices = split(s.choices, ' ');
  for (auto& choice : choices)
    if (choice == text) return;
  auto near = nearest(text, choices, 1);
  misuse(
      "{}: expected one of {}, found \"{}\"{}",
      origin,
      join(choices, ", "),
      printable(text),
      near.empty() ? "" : "; did you mean " + near[0] + "?");
}

void check(const Setting& s, const std::string& text, std::string_view origin) {
  if (s.kind == Kind::integer || s.kind == Kind::number)
    check_number(s, text, origin);
  if (!s.choices.empty()) check_choice(s, text, origin);
  if (s.kind == Kind::boolean || s.kind == Kind::flag) {
    try {
      to_bool(text);
    } catch (const std::logic_error&) {
      misuse("{}: expected true or false, found \"{}\"", origin, text);
    }
  }
  if (s.kind == Kind::json) {
    try {
      auto value = parse_json(text, origin, ErrorKind::request);
      if (!value.is_object())
        misuse("{}: expected an object, found {}", origin, describe(value));
    } catch (const Error& e) {
      misuse("{}", e.what());
    }
  }
}

} // namespace

Values::Values(const Command& command) : command_(&command) {
  for (auto& setting : settings_of(command.name)) {
    Entry entry{setting, {}, false};
    if (!setting.fallback.empty()) entry.texts = {setting.fallback};
    entries_.emplace(setting.name, std::move(entry));
  }
}

void Values::set(
    std::string_view name,
    std::vector<std::string> texts,
    std::string_view origin) {
  auto& entry = entries_.find(name)->second;
  for (auto& text : texts)
    check(entry.setting, text, origin);
  entry.texts = std::move(texts);
  entry.given = true;
}

const Values::Entry& Values::entry(std::string_view name) const {
  auto found = entries_.find(name);
  MLXLM_CHECK(found != entries_.end(), name);
  return found->second;
}

bool Values::has(std::string_view name) const {
  return !entry(name).texts.empty();
}

bool Values::given(std::string_view name) const {
  return entry(name).given;
}

bool Values::flag(std::string_view name) const {
  return has(name) && to_bool(entry(name).texts.back());
}

int Values::integer(std::string_view name) const {
  return to_integer<int>(text(name));
}

double Values::number(std::string_view name) const {
  return to_number(text(name));
}

std::string Values::text(std::string_view name) const {
  return has(name) ? entry(name).texts.back() : "";
}

std::vector<std::string> Values::list(std::string_view name) const {
  return entry(name).texts;
}

Json Values::json(std::string_view name) const {
  if (!has(name)) return Json::object();
  return parse_json(text(name), "--" + std::string(name), ErrorKind::request);
}

} // namespace mlxlm::cli

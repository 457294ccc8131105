#include "serve/keep_alive.h"

#include <cmath>
#include <string>

namespace mlxlm::serve {
namespace {

constexpr double most = 1e9; // seconds: longer is for ever

// Of Go's durations, in seconds; 0: no such unit.
double unit(std::string_view name) {
  if (name == "h") return 3600;
  if (name == "m") return 60;
  if (name == "s") return 1;
  if (name == "ms") return 1e-3;
  if (name == "us" || name == "\u00b5s" || name == "\u03bcs") return 1e-6;
  return name == "ns" ? 1e-9 : 0;
}

bool is_digit(char c) {
  return (c >= '0' && c <= '9') || c == '.';
}

// "12.5" without a sign or an exponent.
std::optional<double> decimal(std::string_view text) {
  double value = 0, place = 0;
  bool any = false;
  for (char c : text) {
    if (c == '.') {
      if (place > 0) return std::nullopt;
      place = 1;
      continue;
    }
    any = true;
    value = value * 10 + (c - '0');
    place *= 10;
  }
  if (!any) return std::nullopt;
  return place > 0 ? value / place : value;
}

KeepAlive from_seconds(double seconds) {
  if (seconds < 0 || seconds > most) return std::nullopt;
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(std::llround(seconds * 1e3)));
}

// "1h30m"; a lone number is seconds.
std::optional<double> positive(std::string_view text) {
  double total = 0;
  bool first = true;
  while (!text.empty()) {
    std::size_t digits = 0, letters = 0;
    while (digits < text.size() && is_digit(text[digits]))
      ++digits;
    auto number = decimal(text.substr(0, digits));
    text.remove_prefix(digits);
    if (!number) return std::nullopt;
    if (text.empty()) return first ? number : std::nullopt;
    while (letters < text.size() && !is_digit(text[letters]))
      ++letters;
    auto scale = unit(text.substr(0, letters));
    if (scale == 0) return std::nullopt;
    text.remove_prefix(letters);
    total += *number * scale;
    first = false;
  }
  return first ? std::nullopt : std::optional(total);
}

} // namespace

std::optional<KeepAlive> parse_keep_alive(std::string_view text) {
  if (text.size() > 64) return std::nullopt;
  bool negative = !text.empty() && text[0] == '-';
  if (negative) text.remove_prefix(1);
  auto seconds = positive(text);
  if (!seconds) return std::nullopt;
  return from_seconds(negative && *seconds > 0 ? -1 : *seconds);
}

std::optional<KeepAlive> parse_keep_alive(const Json& value) {
  if (value.is_number()) return from_seconds(value.get<double>());
  if (value.is_string())
    return parse_keep_alive(
        std::string_view(value.get_ref<const std::string&>()));
  return std::nullopt;
}

} // namespace mlxlm::serve

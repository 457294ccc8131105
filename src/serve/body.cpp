#include "serve/body.h"

#include <fmt/format.h>

#include <cmath>

#include "core/strings.h"

namespace mlxlm::serve {
namespace {

constexpr double exact = 9007199254740992.0; // 2^53

} // namespace

void wrong_value(
    const std::string& param,
    std::string_view expected,
    const Json& found) {
  bad_request(
      param,
      fmt::format(
          "{}: expected {}, found {}", param, expected, describe(found)));
}

void bad_request(
    const std::string& param,
    const std::string& message,
    std::string code) {
  throw ApiError{400, message, param, std::move(code)};
}

Body::Body(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object.is_object())
    wrong_value(path_.empty() ? "body" : path_, "an object", object);
}

std::string Body::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

bool Body::has(std::string_view name) const {
  auto found = object_.find(std::string(name));
  return found != object_.end() && !found->is_null();
}

const Json* Body::any(std::string_view name) {
  known_.emplace(name);
  auto found = object_.find(std::string(name));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::int64_t> Body::integer(
    std::string_view name,
    std::int64_t low,
    std::int64_t high) {
  const auto* value = any(name);
  if (!value) return std::nullopt;
  auto expected = [&] {
    return fmt::format("an integer from {} to {}", low, high);
  };
  std::int64_t n = 0;
  if (value->is_number_unsigned()) {
    auto u = value->get<std::uint64_t>();
    if (u > static_cast<std::uint64_t>(INT64_MAX))
      wrong_value(path(name), expected(), *value);
    n = static_cast<std::int64_t>(u);
  } else if (value->is_number_integer()) {
    n = value->get<std::int64_t>();
  } else if (value->is_number_float()) {
    // 5.0 is an integer to JavaScript.
    double d = value->get<double>();
    if (!(std::fabs(d) <= exact) || d != std::floor(d))
      wrong_value(path(name), expected(), *value);
    n = static_cast<std::int64_t>(d);
  } else {
    wrong_value(path(name), expected(), *value);
  }
  if (n < low || n > high) wrong_value(path(name), expected(), *value);
  return n;
}

std::optional<double> Body::number(
    std::string_view name,
    double low,
    double high) {
  const auto* value = any(name);
  if (!value) return std::nullopt;
  double d = value->is_number() ? value->get<double>() : NAN;
  if (!(d >= low && d <= high))
    wrong_value(
        path(name), fmt::format("a number from {} to {}", low, high), *value);
  return d;
}

std::optional<bool> Body::boolean(std::string_view name) {
  const auto* value = any(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong_value(path(name), "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> Body::text(
    std::string_view name,
    std::size_t max_bytes) {
  const auto* value = any(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong_value(path(name), "a text", *value);
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes)
    bad_request(
        path(name),
        fmt::format(
            "{}: expected at most {} bytes, found {}",
            path(name),
            max_bytes,
            text.size()));
  return text;
}

std::optional<std::string> Body::choice(
    std::string_view name,
    std::initializer_list<const char*> values) {
  auto value = text(name);
  if (!value) return std::nullopt;
  std::vector<std::string> names(values.begin(), values.end());
  for (const auto& known : names)
    if (*value == known) return value;
  wrong_value(path(name), "one of " + join(names, ", "), Json(*value));
}

const Json* Body::list(std::string_view name, std::size_t max_size) {
  const auto* value = any(name);
  if (!value) return nullptr;
  if (!value->is_array()) wrong_value(path(name), "a list", *value);
  if (value->size() > max_size)
    wrong_value(path(name), fmt::format("at most {} items", max_size), *value);
  return value;
}

const Json* Body::object(std::string_view name) {
  const auto* value = any(name);
  if (value && !value->is_object())
    wrong_value(path(name), "an object", *value);
  return value;
}

void Body::accept(std::initializer_list<const char*> names) {
  for (const char* name : names)
    known_.emplace(name);
}

void Body::refuse(std::string_view name, std::string_view why) {
  if (any(name))
    bad_request(
        path(name), fmt::format("{}: {}", path(name), why), "unsupported");
}

std::vector<std::string> Body::unknown() const {
  std::vector<std::string> out;
  for (const auto& [name, value] : object_.items())
    if (!known_.count(name)) out.push_back(path(name));
  return out;
}

void Body::missing(std::string_view name) const {
  bad_request(
      path(name),
      fmt::format("{}: expected a value, found none", path(name)),
      "missing_required_parameter");
}

Json parse_body(const std::string& text, std::size_t depth) {
  std::string_view json = text;
  if (starts_with(json, "\xef\xbb\xbf")) json.remove_prefix(3);
  try {
    auto parsed =
        parse_json(json, "body", ErrorKind::request, {.depth = depth});
    if (!parsed.is_object()) wrong_value("body", "a JSON object", parsed);
    return parsed;
  } catch (const Error& error) {
    bad_request({}, error.what(), "invalid_json");
  }
}

} // namespace mlxlm::serve

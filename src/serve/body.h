// Reads the fields of a request's JSON: types and ranges are checked, a wrong
// one is an ApiError that names it, and fields that nobody asked for are
// remembered.
//
//   Body body(json);
//   auto n = body.integer("n", 1, 16).value_or(1);
//   auto unknown = body.unknown();
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "serve/errors.h"

namespace mlxlm::serve {

// 400 "FIELD: expected ..., found ...".
[[noreturn]] void wrong_value(
    const std::string& param,
    std::string_view expected,
    const Json& found);
[[noreturn]] void bad_request(
    const std::string& param,
    const std::string& message,
    std::string code = {});

class Body {
 public:
  // `object` must outlive it. `path` names it in errors: "stream_options".
  explicit Body(const Json& object, std::string path = {});

  // Nothing for fields that are absent or null.
  std::optional<std::int64_t> integer(
      std::string_view name,
      std::int64_t low,
      std::int64_t high);
  std::optional<double> number(std::string_view name, double low, double high);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(
      std::string_view name,
      std::size_t max_bytes = std::size_t{1} << 26);
  std::optional<std::string> choice(
      std::string_view name,
      std::initializer_list<const char*> values);
  const Json* list(std::string_view name, std::size_t max_size);
  const Json* object(std::string_view name);
  // Of any type; null when absent or null.
  const Json* any(std::string_view name);
  // A field that must be there.
  template <typename T>
  T needed(std::string_view name, std::optional<T> value) {
    if (!value) missing(name);
    return std::move(*value);
  }
  const Json& needed(std::string_view name, const Json* value) {
    if (!value) missing(name);
    return *value;
  }
  // Known, and without effect here.
  void accept(std::initializer_list<const char*> names);
  // Known, but a value that would change the answer is refused.
  void refuse(std::string_view name, std::string_view why);

  bool has(std::string_view name) const;
  std::vector<std::string> unknown() const;
  std::string path(std::string_view name) const;

 private:
  [[noreturn]] void missing(std::string_view name) const;

  const Json& object_;
  std::string path_;
  std::set<std::string, std::less<>> known_;
};

// A request's body as an object. Throws ApiError.
Json parse_body(const std::string& text, std::size_t depth);

} // namespace mlxlm::serve

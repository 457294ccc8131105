// A typed, path-aware view of one JSON object. The whole interface of config
// parsing: `req`, `opt`, `sub`. Errors name file and field:
//   config.json: text_config.heads: expected an integer, found "8"
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace mlxlm {

class Fields {
 public:
  // `file` is how errors call the document, e.g. "config.json".
  Fields(Json object, std::string file);

  bool has(std::string_view key) const; // present and not null
  // The required value of `key`. T: bool, int, int64_t, float, double,
  // std::string, std::vector of those, Json.
  template <typename T>
  T req(std::string_view key) const;
  // The value or `fallback` when the key is absent or null; a value of the
  // wrong kind still throws.
  template <typename T>
  T opt(std::string_view key, T fallback) const;
  template <typename T>
  std::optional<T> find(std::string_view key) const;
  std::string opt(std::string_view key, const char* fallback) const {
    return opt<std::string>(key, fallback);
  }
  // `req<int>` that must lie in [low, high].
  int range(std::string_view key, int low, int high) const;
  int range(std::string_view key, int fallback, int low, int high) const;

  // The object under `key`; an absent or null key gives an empty object.
  Fields sub(std::string_view key) const;
  // True if `key` holds an object.
  bool is_object(std::string_view key) const;

  // "config.json: text_config.rope_scaling.type", for errors of one's own.
  std::string where(std::string_view key = {}) const;
  const Json& json() const;
  // A copy with some keys set, e.g. to fill a family's defaults.
  Fields with(const Json& overrides) const;

 private:
  struct Document;
  Fields(
      std::shared_ptr<const Document> document,
      const Json* node,
      std::string path);
  std::shared_ptr<const Document> document_;
  const Json* node_;
  std::string path_;
};

} // namespace mlxlm

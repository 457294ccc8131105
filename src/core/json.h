// JSON for everything read from outside: bounded depth and size, no duplicate
// keys, key order kept. nlohmann's `dump` and copy recurse, so the depth limit
// is what keeps a hostile document from overflowing the stack.
#pragma once

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>

#include "mlxlm/error.h"

namespace mlxlm {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t depth = 64;
  std::size_t bytes = std::size_t{64} << 20;
  bool duplicate_keys = false; // true: accepted, the last one wins
  bool nonfinite = false; // true: bare NaN, Infinity and -Infinity, as Python's
};

// Throws Error(kind) naming `where` and the byte position.
Json parse_json(
    std::string_view text,
    std::string_view where,
    ErrorKind kind = ErrorKind::config,
    const JsonLimits& limits = {});

// Reads and parses a file (`where` in errors is the file's name).
Json read_json(const std::string& path, const JsonLimits& limits = {});

// What a value is, for error messages: `"8"`, `3.5`, `an object`, `null`.
std::string describe(const Json& value);

} // namespace mlxlm

// Ways to raise mlxlm::Error in its one grammar:
// `where: expected, found; hint`.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "mlxlm/error.h"

namespace mlxlm {

// Throws "where: what" of `kind`. Example:
//   fail(ErrorKind::weights, path, "expected magic 'GGUF', found '{}'", magic);
template <typename... Args>
[[noreturn]] void fail(
    ErrorKind kind,
    std::string_view where,
    fmt::format_string<Args...> text,
    Args&&... args) {
  auto what = fmt::format(text, std::forward<Args>(args)...);
  throw Error(kind, where.empty() ? what : fmt::format("{}: {}", where, what));
}

[[noreturn]] void check_failed(
    const char* file,
    int line,
    const char* condition,
    std::string_view text);

// Stays on in release: a broken invariant ends the request, never memory.
#define MLXLM_CHECK(condition, text)                               \
  do {                                                             \
    if (!(condition)) [[unlikely]]                                 \
      ::mlxlm::check_failed(__FILE__, __LINE__, #condition, text); \
  } while (false)

} // namespace mlxlm

#include "mlxlm/error.h"

#include <cstring>

#include "core/check.h"

namespace mlxlm {

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::config:
      return "config";
    case ErrorKind::weights:
      return "weights";
    case ErrorKind::text:
      return "text";
    case ErrorKind::request:
      return "request";
    case ErrorKind::resource:
      return "resource";
    case ErrorKind::io:
      return "io";
    case ErrorKind::internal:
      return "internal";
  }
  return "internal";
}

void check_failed(
    const char* file,
    int line,
    const char* condition,
    std::string_view text) {
  const char* base = std::strrchr(file, '/');
  fail(
      ErrorKind::internal,
      fmt::format("{}:{}", base ? base + 1 : file, line),
      "{} (check `{}` failed; please report this)",
      text,
      condition);
}

} // namespace mlxlm

#include "core/env.h"

#include <cstdlib>

#include "core/strings.h"

namespace mlxlm::env {

std::optional<std::string> get(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

bool flag(const char* name) {
  auto value = lower_ascii(get(name).value_or(""));
  return value == "1" || value == "on" || value == "yes" || value == "true";
}

} // namespace mlxlm::env

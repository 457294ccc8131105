// The only place that reads environment variables.
#pragma once

#include <optional>
#include <string>

namespace mlxlm::env {

// The value, or nothing when unset or empty.
std::optional<std::string> get(const char* name);
// 1, ON, YES, TRUE in any case (the Hugging Face convention).
bool flag(const char* name);

} // namespace mlxlm::env

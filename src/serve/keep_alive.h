// How long a model stays loaded that nobody uses, as Ollama writes it: "5m",
// "1h30m", 300 (seconds), 0 (not at all), -1 (for ever).
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "core/json.h"

namespace mlxlm::serve {

using KeepAlive = std::optional<std::chrono::milliseconds>; // nothing: for ever

// Nothing: `text` is no such duration.
std::optional<KeepAlive> parse_keep_alive(std::string_view text);
std::optional<KeepAlive> parse_keep_alive(const Json& value);

} // namespace mlxlm::serve

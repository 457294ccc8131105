// Patterns and formats of JSON schemas as regular expressions of whole texts,
// as grammars take them. Both throw CannotForce, with the schema they are of.
#pragma once

#include <string>
#include <string_view>

#include "core/json.h"

namespace mlxlm::tools {

// What may be found anywhere in a text.
std::string searched(std::string_view pattern, const Json& schema);
// Texts of a format; not all of them where that says too much.
std::string of_format(const std::string& name, const Json& schema);

} // namespace mlxlm::tools

// What a schema allows, as alternatives that each say all of it.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace mlxlm::tools {

// Objects without references or alternatives of their own. No value is of any
// when there are none. Throws CannotForce for what cannot be; nothing is left
// out.
using Ways = std::vector<Json>;
Ways schema_ways(const Json& root, const Json& schema);

// The names of `type`, one or a list, in small letters.
std::vector<std::string> types_named(const Json& type);
Json member_or(const Json& schema, const char* key, const Json& fallback);

} // namespace mlxlm::tools

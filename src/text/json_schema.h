// JSON schemas as grammars take them. llguidance has no `oneOf` of its own, but
// one whose alternatives exclude one another says the same as `anyOf`.
#pragma once

#include <string>
#include <string_view>

#include "core/json.h"

namespace mlxlm {

// Every `oneOf` whose alternatives provably exclude one another (other types,
// other constants, ranges that do not meet, objects of which a needed property
// does) becomes an `anyOf`. References within the schema are followed.
Json without_one_of(Json schema);

// Where the first subschema with this keyword stands: "#/properties/a"; empty:
// nowhere. Not looked for in what is never a schema (const, examples…).
std::string place_of_keyword(const Json& schema, std::string_view keyword);

// Whether no value can be of both; both are parts of `root`. False: it could
// not be shown.
bool exclude_each_other(const Json& root, const Json& a, const Json& b);

} // namespace mlxlm

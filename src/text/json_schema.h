// JSON schemas as grammars take them. llguidance has no `oneOf` of its own, but
// one whose alternatives exclude one another says the same as `anyOf`.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/json.h"

namespace mlxlm {

// Every `oneOf` whose alternatives provably exclude one another (see
// SchemaExclusion) becomes an `anyOf`. References within the schema are
// followed.
Json without_one_of(Json schema);

// Where the first subschema with this keyword stands: "#/properties/a"; empty:
// nowhere. Not looked for in what is never a schema (const, examples…).
std::string place_of_keyword(const Json& schema, std::string_view keyword);

// Visits every schema within a schema, those in it first, and last itself, each
// with its place. `visit` returns false to stop.
void for_each_schema(
    const Json& schema,
    const std::function<bool(const Json& part, const std::string& place)>&
        visit);

// Where the first keyword stands that no grammar enforces ("not", "if"…) or
// whose value is not of the kind it has to be; empty: nowhere.
std::string place_of_what_is_not_enforced(const Json& schema);
// Where `part` stands in a schema; empty: nowhere.
std::string place_of(const Json& schema, const Json& part);

} // namespace mlxlm

// Python's literals and calls of functions with keyword arguments, as models
// write them.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/tools/tool_format.h"

namespace mlxlm::tools {

// "[f(a=1, b='x'), g.h()]". JSON's true, false and null are values as well.
// Nothing when it is not a list of at least one such call.
std::optional<std::vector<ParsedCall>> python_calls(std::string_view text);
// "f(a=1)" alone.
std::optional<ParsedCall> python_call(std::string_view text);

} // namespace mlxlm::tools

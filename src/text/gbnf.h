// llama.cpp's grammars (GBNF) as llguidance's Lark.
#pragma once

#include <string>
#include <string_view>

namespace mlxlm {

// Rules are written with "::=" there, outside of texts and remarks.
bool is_gbnf(std::string_view text);
// Throws Error(request) with the line.
std::string lark_of_gbnf(std::string_view text);

} // namespace mlxlm

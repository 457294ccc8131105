// Names of sampling stages, as users and other programs spell them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

// Names between commas or semicolons ("top_k", "top-k", "typ_p" and the like),
// or llama.cpp's letters ("edskypmxt"); as SamplingParameters::chain has them.
// Throws Error(request).
std::vector<std::string> parse_chain(std::string_view text);

// Throws Error(request) for names that are none, and for an order that cannot
// be run: what changes logits comes before what drops tokens.
void check_chain(std::span<const std::string> chain);

} // namespace mlxlm

// The part of a request that says how to generate, the same for every API.
#pragma once

#include "mlxlm/generate.h"
#include "serve/body.h"
#include "serve/limits.h"

namespace mlxlm::serve {

// What a number may be in a request: less, here and there, than the library
// takes.
struct Bounds {
  double low, high;
};
Bounds bounds_of(const Setting& row);

// OpenAI's fields and mlx-lm's and llama-server's extensions of them, over the
// server's defaults. `least`: tokens that may be asked for.
GenerateParameters read_sampling(
    Body& body,
    const GenerateParameters& defaults,
    const Limits& limits,
    int least = 1);

// `stop` (or another name): a text or a list of texts.
std::vector<std::string> read_stop(
    Body& body,
    std::string_view name,
    const Limits& limits);

} // namespace mlxlm::serve

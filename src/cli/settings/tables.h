// The parts of the table of settings, by what they are for. They stand in
// --help in the order of settings.cpp.
#pragma once

#include <string>
#include <vector>

#include "cli/settings.h"

namespace mlxlm::cli {

using Settings = std::vector<Setting>;

constexpr auto long_help = Shown::long_help;

// What every command that runs a model takes.
inline const std::string running =
    "generate chat serve bench perplexity cache-prompt";

Settings prompt_settings();
Settings running_settings();
Settings convert_settings();
Settings measure_settings();
Settings serve_settings();
Settings tools_settings();

} // namespace mlxlm::cli

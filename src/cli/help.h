// Everything that is said about the commands, from the table of settings.
#pragma once

#include <string>

#include "cli/settings.h"

namespace mlxlm::cli {

std::string program_help();
// `all`: the long help; otherwise what fits a screen, with examples.
std::string command_help(const Command& command, bool all);
std::string man_page();
std::string settings_json();
// `shell`: bash, zsh or fish.
std::string completion(const std::string& shell);

} // namespace mlxlm::cli

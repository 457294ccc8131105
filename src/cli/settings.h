// The one table of settings: every flag of every command is declared once, with
// type, default, range and help. Parsing, --help, shell completion, the man
// page and `mlxlm settings` all derive from it.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm::cli {

enum class Kind {
  flag, // present or not
  boolean, // takes true or false
  integer,
  number,
  text,
  json, // a JSON object
  list, // one or more texts
};

enum class Shown { short_help, long_help };

struct Setting {
  std::string name; // "max-tokens"
  std::string aliases; // "-m --other", separated by spaces
  Kind kind = Kind::text;
  std::string value; // what --help calls the value: "N", "FILE"
  std::string fallback; // the default, as one would type it; empty: none
  // The commands that take it, each with its own default where that differs:
  // "generate chat=256".
  std::string commands;
  std::string help; // one line, lower case, no full stop
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::string choices = {}; // separated by spaces; empty: anything
  Shown shown = Shown::short_help;
  bool positional = false;
};

std::span<const Setting> settings();

class Values;
struct Command {
  std::string name;
  std::string summary;
  std::string synopsis; // after "mlxlm NAME", when the table cannot tell
  std::vector<std::string> examples;
  int (*run)(const Values&); // the exit code
};

std::span<const Command> commands();
const Command* find_command(std::string_view name);

// A setting as one command sees it: with that command's default.
std::vector<Setting> settings_of(std::string_view command);

} // namespace mlxlm::cli

// mlxlm COMMAND: finds the command, runs it, turns what goes wrong into one
// line on standard error and an exit code: 1 failure, 2 usage, 130 interrupted.
#include <fmt/format.h>

#include <new>

#include "cli/help.h"
#include "cli/terminal.h"
#include "cli/values.h"
#include "core/strings.h"
#include "mlxlm/hub.h"
#include "mlxlm/version.h"

namespace mlxlm::cli {
namespace {

constexpr std::size_t longest_message = 2000;

int complain(std::string_view message, int code) {
  note("mlxlm: " + printable(message, longest_message));
  return code;
}

std::string about() {
  return fmt::format(
      "mlxlm {} ({})\nMLX {}, {}\n",
      version(),
      MLXLM_COMMIT,
      engine_version(),
      device());
}

const Command& choose(const std::string& name) {
  if (auto* command = find_command(name)) return *command;
  std::vector<std::string> names;
  for (auto& command : commands())
    names.push_back(command.name);
  auto near = nearest(name, names, 1);
  auto hint = near.empty() ? std::string("see mlxlm --help")
                           : "did you mean " + near[0] + "?";
  throw UsageError(
      fmt::format("{}: unknown command; {}", printable(name), hint));
}

bool contains(const std::vector<std::string>& words, std::string_view word) {
  for (auto& w : words)
    if (w == word) return true;
  return false;
}

int dispatch(std::vector<std::string> words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" ||
      words[0] == "--help-all") {
    print(program_help());
    return 0;
  }
  if (words[0] == "--version") {
    print(about());
    return 0;
  }
  if (words[0] == "help") {
    if (words.size() == 1) return dispatch({});
    words = {words[1], "--help"};
  }
  auto& command = choose(words[0]);
  words.erase(words.begin());
  bool all = contains(words, "--help-all");
  if (all || contains(words, "--help") || contains(words, "-h")) {
    print(command_help(command, all));
    return 0;
  }
  return command.run(parse(command, words));
}

int run(std::vector<std::string> words) {
  try {
    return dispatch(std::move(words));
  } catch (const BrokenPipe&) {
    return 0;
  } catch (const UsageError& e) {
    return complain(e.what(), 2);
  } catch (const Interrupted& e) {
    return complain(e.what(), 130);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", 1);
  } catch (const std::exception& e) {
    return complain(e.what(), 1);
  }
}

} // namespace
} // namespace mlxlm::cli

int main(int argc, char** argv) {
  mlxlm::cli::watch_interrupts();
  return mlxlm::cli::run({argv + 1, argv + argc});
}

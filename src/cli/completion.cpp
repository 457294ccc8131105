// Shell completion scripts from the table of settings.
#include <fmt/format.h>

#include "cli/help.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text)
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> option_words(const Setting& s) {
  if (s.positional) return {};
  std::vector<std::string> out = {"--" + s.name};
  for (auto& alias : split(s.aliases, ' '))
    if (!alias.empty()) out.push_back(alias);
  return out;
}

std::string command_words() {
  std::vector<std::string> out;
  for (auto& command : commands())
    out.push_back(command.name);
  return join(out, " ");
}

bool takes_path(const Setting& s) {
  return s.value == "FILE" || s.value == "MODEL";
}

std::string bash() {
  std::string cases;
  for (auto& command : commands()) {
    std::string options = "--help --help-all", words, values;
    for (auto& s : settings_of(command.name)) {
      if (s.positional) words += " " + s.choices;
      auto names = option_words(s);
      for (auto& name : names)
        options += " " + name;
      if (s.choices.empty() || s.positional) continue;
      values += fmt::format(
          "        {}) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;\n",
          join(names, "|"),
          s.choices);
    }
    if (!values.empty())
      values = "      case \"$prev\" in\n" + values + "      esac\n";
    cases += fmt::format(
        "    {})\n{}      words=\"{}{}\" ;;\n",
        command.name,
        values,
        options,
        words);
  }
  return fmt::format(
      "_mlxlm() {{\n"
      "  local cur=\"${{COMP_WORDS[COMP_CWORD]}}\" "
      "prev=\"${{COMP_WORDS[COMP_CWORD-1]}}\" words\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W \"{} --help --version\" -- \"$cur\"))\n"
      "    return\n  fi\n"
      "  case \"${{COMP_WORDS[1]}}\" in\n{}  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
      "  [ \"${{#COMPREPLY[@]}}\" -gt 0 ] || COMPREPLY=($(compgen -f -- "
      "\"$cur\"))\n}}\ncomplete -o filenames -F _mlxlm mlxlm\n",
      command_words(),
      cases);
}

// What zsh's _arguments reads between brackets and after colons.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_action(const Setting& s) {
  if (!s.choices.empty()) return "(" + s.choices + ")";
  return takes_path(s) ? "_files" : " ";
}

std::string zsh() {
  std::string names, cases;
  for (auto& command : commands()) {
    names += fmt::format(
        "    {}\n",
        shell_quoted(command.name + ":" + zsh_text(command.summary)));
    cases += fmt::format("    {})\n      _arguments", command.name);
    for (auto& s : settings_of(command.name)) {
      if (s.positional)
        cases += fmt::format(
            " \\\n        {}",
            shell_quoted(
                fmt::format(":{}:{}", zsh_text(s.help), zsh_action(s))));
      for (auto& name : option_words(s)) {
        auto text = fmt::format("{}[{}]", name, zsh_text(s.help));
        if (s.kind != Kind::flag)
          text += fmt::format(":{}:{}", zsh_text(s.value), zsh_action(s));
        cases += " \\\n        " + shell_quoted(text);
      }
    }
    cases += " \\\n        '--help[explain the command]' ;;\n";
  }
  return fmt::format(
      "#compdef mlxlm\n_mlxlm() {{\n  local -a names\n  names=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n    _describe command names\n"
      "    return\n  fi\n  local name=$words[2]\n"
      "  shift words; (( CURRENT-- ))\n  case $name in\n{}  esac\n}}\n"
      "if [ \"$funcstack[1]\" = _mlxlm ]; then _mlxlm \"$@\"; "
      "else compdef _mlxlm mlxlm; fi\n",
      names,
      cases);
}

std::string fish() {
  std::string out = "complete -c mlxlm -f\n";
  for (auto& command : commands())
    out += fmt::format(
        "complete -c mlxlm -n __fish_use_subcommand -a {} -d {}\n",
        command.name,
        shell_quoted(command.summary));
  for (auto& command : commands()) {
    auto when = fmt::format(
        "complete -c mlxlm -n '__fish_seen_subcommand_from {}'", command.name);
    for (auto& s : settings_of(command.name)) {
      if (s.positional) {
        if (!s.choices.empty())
          out += fmt::format("{} -a {}\n", when, shell_quoted(s.choices));
        continue;
      }
      out += when;
      for (auto& name : option_words(s)) {
        if (starts_with(name, "--"))
          out += " -l " + name.substr(2);
        else if (name.size() == 2)
          out += " -s " + name.substr(1);
        else
          out += " -o " + name.substr(1);
      }
      if (s.kind != Kind::flag) out += " -r";
      if (!s.choices.empty()) out += " -a " + shell_quoted(s.choices);
      if (takes_path(s)) out += " -F";
      out += " -d " + shell_quoted(s.help) + "\n";
    }
  }
  return out;
}

} // namespace

std::string completion(const std::string& shell) {
  if (shell == "bash") return bash();
  return shell == "zsh" ? zsh() : fish();
}

} // namespace mlxlm::cli

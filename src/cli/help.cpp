#include "cli/help.h"

#include <fmt/format.h>

#include <cmath>

#include "core/json.h"
#include "core/strings.h"
#include "mlxlm/version.h"

namespace mlxlm::cli {
namespace {

constexpr std::size_t page_width = 80;

// "-m, --max-tokens N"
std::string spelling(const Setting& s) {
  if (s.positional) return s.value;
  std::string out;
  for (auto& alias : split(s.aliases, ' '))
    if (!alias.empty() && !starts_with(alias, "--")) out += alias + ", ";
  out += fmt::format("--{}", s.name);
  if (!s.value.empty()) out += fmt::format(" {}", s.value);
  if (s.kind == Kind::list) out += "...";
  return out;
}

std::string description(const Setting& s) {
  auto out = s.help;
  if (!s.choices.empty())
    out += fmt::format(": {}", join(split(s.choices, ' '), ", "));
  if (!s.fallback.empty()) out += fmt::format(" (default: {})", s.fallback);
  return out;
}

// `left` in a column of its own, `right` wrapped beside it.
std::string entry(
    const std::string& left,
    const std::string& right,
    std::size_t column) {
  auto out = fmt::format("  {:<{}}", left, column - 2);
  std::size_t at = std::max(column, left.size() + 4);
  if (left.size() + 4 > column) out += "  ";
  for (auto& word : split(right, ' ')) {
    if (at + word.size() > page_width) {
      out.pop_back();
      out += fmt::format("\n{:{}}", "", column);
      at = column;
    }
    out += word;
    out += ' ';
    at += word.size() + 1;
  }
  while (!out.empty() && out.back() == ' ')
    out.pop_back();
  return out + "\n";
}

std::string usage(const Command& command) {
  if (!command.synopsis.empty())
    return fmt::format("mlxlm {}", command.synopsis);
  auto out = fmt::format("mlxlm {}", command.name);
  bool options = false;
  for (auto& s : settings_of(command.name)) {
    if (s.positional) out += fmt::format(" [{}]", s.value);
    options = options || !s.positional;
  }
  return options ? out + " [OPTIONS]" : out;
}

std::string examples(const Command& command) {
  std::string out;
  for (auto& example : command.examples)
    out += fmt::format("  {}\n", example);
  return out.empty() ? out : fmt::format("\nExamples:\n{}", out);
}

Json default_json(const Setting& s) {
  if (s.fallback.empty()) return s.kind == Kind::flag ? Json(false) : Json();
  if (s.kind == Kind::integer || s.kind == Kind::number ||
      s.kind == Kind::boolean)
    return Json::parse(s.fallback);
  return s.fallback;
}

const char* kind_name(Kind kind) {
  constexpr const char* names[] = {
      "flag", "boolean", "integer", "number", "text", "json", "list"};
  return names[static_cast<int>(kind)];
}

Json to_json(const Setting& s) {
  Json out = {
      {"name", s.name},
      {"type", kind_name(s.kind)},
      {"default", default_json(s)},
      {"help", s.help},
  };
  if (std::isfinite(s.low)) out["minimum"] = s.low;
  if (std::isfinite(s.high)) out["maximum"] = s.high;
  if (!s.choices.empty()) out["choices"] = split(s.choices, ' ');
  if (!s.aliases.empty()) out["aliases"] = split(s.aliases, ' ');
  if (s.positional) out["positional"] = true;
  return out;
}

// Text for roff: no line starts with a control character, no stray escapes.
std::string roff(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  if (!out.empty() && (out[0] == '.' || out[0] == '\'')) out.insert(0, "\\&");
  return out;
}

} // namespace

std::string program_help() {
  std::string out =
      "mlxlm - language models on your own machine\n\n"
      "Usage: mlxlm COMMAND [OPTIONS]\n\nCommands:\n";
  for (auto& command : commands())
    out += entry(command.name, command.summary, 16);
  out +=
      "\n`mlxlm COMMAND --help` explains a command, --version the program.\n"
      "Example: mlxlm generate --prompt \"Why is the sky blue?\"\n";
  return out;
}

std::string command_help(const Command& command, bool all) {
  auto out = fmt::format(
      "mlxlm {} - {}\n\nUsage: {}\n",
      command.name,
      command.summary,
      usage(command));
  std::string options;
  bool more = false;
  for (auto& s : settings_of(command.name)) {
    if (s.shown == Shown::long_help && !all)
      more = true;
    else
      options += entry(spelling(s), description(s), all ? 32 : 26);
  }
  if (more) options += entry("--help-all", "show every option", 26);
  if (!options.empty()) out += fmt::format("\nOptions:\n{}", options);
  return out + examples(command);
}

std::string man_page() {
  auto out = fmt::format(
      ".TH MLXLM 1 \"\" \"mlxlm {}\"\n.SH NAME\n"
      "mlxlm \\- language models on your own machine\n"
      ".SH SYNOPSIS\n.B mlxlm\n.I COMMAND\n[\\fIOPTIONS\\fR]\n"
      ".SH DESCRIPTION\nAnswers go to standard output, everything else to "
      "standard error.\nEvery option may also be given as an environment "
      "variable (\\fBMLXLM_MAX_TOKENS\\fR for \\fB\\-\\-max\\-tokens\\fR)\nor in "
      "\\fI~/.config/mlxlm/settings.json\\fR. An option wins over the "
      "environment,\nthe environment over the file.\n.SH COMMANDS\n",
      version());
  for (auto& command : commands()) {
    out += fmt::format(
        ".SS {}\n{}\n", roff(usage(command)), roff(command.summary));
    for (auto& s : settings_of(command.name))
      out += fmt::format(
          ".TP\n.B {}\n{}\n", roff(spelling(s)), roff(description(s)));
    for (auto& example : command.examples)
      out += fmt::format(".PP\n.EX\n{}\n.EE\n", roff(example));
  }
  return out +
      ".SH EXIT STATUS\n0 success, 1 failure, 2 a mistake on the command "
      "line, 130 interrupted.\n";
}

std::string settings_json() {
  Json out = Json::object();
  for (auto& command : commands()) {
    Json list = Json::array();
    for (auto& s : settings_of(command.name))
      list.push_back(to_json(s));
    out[command.name] = {
        {"summary", command.summary}, {"settings", std::move(list)}};
  }
  return out.dump(2) + "\n";
}

} // namespace mlxlm::cli

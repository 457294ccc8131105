// The command line, the environment and the settings file to Values. CLI11
// splits the words; what they may be comes from the table.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>

#include "cli/values.h"
#include "core/check.h"
#include "core/env.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

// CLI11 knows one-letter short options only; longer ones (-qa) become their
// long form beforehand.
std::vector<std::string> expand_aliases(
    const std::vector<Setting>& table,
    std::vector<std::string> words) {
  for (auto& word : words)
    for (auto& setting : table)
      for (auto& alias : split(setting.aliases, ' '))
        if (alias.size() > 2 && alias[1] != '-' && word == alias)
          word = "--" + setting.name;
  return words;
}

std::string option_names(const Setting& setting) {
  auto names = "--" + setting.name;
  for (auto& alias : split(setting.aliases, ' '))
    if (alias.size() == 2 || starts_with(alias, "--")) names += "," + alias;
  return names;
}

// Every spelling of every option, for suggestions.
std::vector<std::string> spellings(const std::vector<Setting>& table) {
  std::vector<std::string> out = {"--help", "--help-all"};
  for (auto& setting : table)
    if (!setting.positional) out.push_back("--" + setting.name);
  return out;
}

[[noreturn]] void unexpected(
    const std::string& command,
    const std::vector<Setting>& table,
    const std::string& word) {
  auto name = word.substr(0, word.find('='));
  auto hint = fmt::format("see mlxlm {} --help", command);
  if (starts_with(name, "-")) {
    auto near = nearest(name, spellings(table), 1);
    if (!near.empty()) hint = "did you mean " + near[0] + "?";
    throw UsageError(
        fmt::format("{}: unknown option; {}", printable(name), hint));
  }
  throw UsageError(
      fmt::format("\"{}\": unexpected argument; {}", printable(word), hint));
}

std::string environment_name(const Setting& setting) {
  std::string out = "MLXLM_";
  for (char c : setting.name)
    out += c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

void read_environment(const std::vector<Setting>& table, Values& values) {
  for (auto& setting : table) {
    if (setting.positional) continue;
    auto name = environment_name(setting);
    if (auto value = env::get(name.c_str()))
      values.set(setting.name, {*value}, name);
  }
}

// The settings file: {"max-tokens": 200, "chat": {"temp": 0.7}}. A key that
// names a command holds what is for that command only.
void read_object(
    const Json& object,
    const std::string& path,
    const std::vector<Setting>& table,
    Values& values) {
  for (auto& setting : table) {
    auto found = object.find(setting.name);
    if (setting.positional || found == object.end()) continue;
    std::vector<std::string> texts;
    for (auto& item : found->is_array() ? *found : Json::array({*found}))
      texts.push_back(item.is_string() ? item.get<std::string>() : item.dump());
    values.set(setting.name, texts, path + ": " + setting.name);
  }
}

std::string settings_file() {
  if (auto path = env::get("MLXLM_SETTINGS")) return *path;
  auto base = env::get("XDG_CONFIG_HOME");
  if (!base) {
    auto home = env::get("HOME");
    base = home ? *home + "/.config" : "";
  }
  auto path = *base + "/mlxlm/settings.json";
  return is_file(path) ? path : "";
}

void read_settings_file(const std::vector<Setting>& table, Values& values) {
  auto path = settings_file();
  if (path.empty()) return;
  auto json = read_json(path);
  if (!json.is_object())
    fail(
        ErrorKind::config,
        path,
        "expected an object, found {}",
        describe(json));
  for (auto& [key, value] : json.items())
    if (!find_command(key) &&
        std::none_of(settings().begin(), settings().end(), [&](auto& s) {
          return s.name == key;
        }))
      fail(ErrorKind::config, path, "unknown setting \"{}\"", printable(key));
  read_object(json, path, table, values);
  auto own = json.find(values.command().name);
  if (own != json.end() && own->is_object())
    read_object(*own, path, table, values);
}

// What is left of the command line fills the positional settings in order.
void set_positionals(
    const std::vector<Setting>& table,
    std::vector<std::string> words,
    Values& values) {
  auto plain = std::find(words.begin(), words.end(), "--");
  auto wrong = std::find_if(
      words.begin(), plain, [](auto& w) { return starts_with(w, "-"); });
  if (wrong != plain) unexpected(values.command().name, table, *wrong);
  if (plain != words.end()) words.erase(plain);
  std::size_t used = 0;
  for (auto& setting : table)
    if (setting.positional && used < words.size())
      values.set(setting.name, {words[used++]}, setting.name);
  if (used < words.size())
    unexpected(values.command().name, table, words[used]);
}

} // namespace

Values parse(
    const Command& command,
    const std::vector<std::string>& arguments) {
  auto table = settings_of(command.name);
  std::vector<std::vector<std::string>> texts(table.size());
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::vector<CLI::Option*> options(table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i].positional) continue;
    auto names = option_names(table[i]);
    bool flag = table[i].kind == Kind::flag;
    options[i] = flag ? app.add_flag(names) : app.add_option(names, texts[i]);
    if (table[i].kind == Kind::list)
      options[i]->expected(1, 1 << 20);
    else if (!flag)
      options[i]->expected(1)->multi_option_policy(
          CLI::MultiOptionPolicy::TakeLast);
  }
  auto words = expand_aliases(table, arguments);
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ArgumentMismatch& e) {
    auto text = std::string(e.what());
    throw UsageError(text.substr(0, text.find(':')) + ": expected a value");
  } catch (const CLI::Error& e) {
    auto text = std::string(e.what());
    throw UsageError(text.substr(0, text.find('\n')));
  }
  Values values(command);
  read_settings_file(table, values);
  read_environment(table, values);
  set_positionals(table, app.remaining(), values);
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (!options[i] || options[i]->count() == 0) continue;
    if (table[i].kind == Kind::flag) texts[i] = options[i]->results();
    values.set(table[i].name, texts[i], "--" + table[i].name);
  }
  return values;
}

} // namespace mlxlm::cli

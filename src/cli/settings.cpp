#include "cli/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "cli/settings/tables.h"
#include "core/strings.h"
#include "mlxlm/generate.h"
#include "serve/limits.h"

namespace mlxlm::cli {
namespace {

// What the command line adds to a row of the library's table of sampling
// settings.
struct Dressing {
  std::string_view flag, aliases, commands;
  std::optional<double> low;
  bool common;
};
constexpr Dressing dressings[] = {
    {"--max-tokens", "-m", "generate chat=256 serve=512", -1, true},
    {"--temp", "--temperature", "generate chat serve", {}, true},
    {"--seed", "", "generate chat serve", {}, true},
    // As llama.cpp has them.
    {"--typical-p", "--typical", "generate chat serve", {}, false},
    {"--top-n-sigma", "--top-nsigma", "generate chat serve", {}, false},
    {"--mirostat-tau", "--mirostat-ent", "generate chat serve", {}, false},
    {"--mirostat-eta", "--mirostat-lr", "generate chat serve", {}, false},
    {"--repetition-penalty",
     "--repeat-penalty",
     "generate chat serve",
     {},
     false},
    {"--draft", "", "generate chat bench serve", {}, false},
    {"--num-draft-tokens", "", "generate chat bench serve", {}, false},
};

Kind kind_of(SettingType type) {
  switch (type) {
    case SettingType::integer:
      return Kind::integer;
    case SettingType::real:
      return Kind::number;
    case SettingType::list:
      return Kind::list;
    case SettingType::map:
    case SettingType::choice:
      return Kind::text;
  }
  return Kind::text;
}

// "Most tokens" -> "most tokens"; "ID:VALUE" stays.
std::string help_of(std::string_view help) {
  std::string out(help);
  if (out.size() > 1 && std::islower(static_cast<unsigned char>(out[1])))
    out[0] = char(std::tolower(static_cast<unsigned char>(out[0])));
  return out;
}

Setting from_library(const mlxlm::Setting& row) {
  Setting out;
  out.name = row.flag.substr(2);
  out.kind = kind_of(row.type);
  out.value = out.kind == Kind::list    ? "TEXT"
      : row.type == SettingType::map    ? "ID:VALUE"
      : row.type == SettingType::choice ? "WORD"
      : out.kind == Kind::integer       ? "N"
                                        : "X";
  out.fallback = row.program;
  out.commands = "generate chat serve";
  out.help = help_of(row.help);
  if (out.kind == Kind::integer || out.kind == Kind::number) {
    out.low = row.low;
    out.high = row.high;
  }
  out.choices = row.choices;
  out.shown = long_help;
  for (auto& d : dressings) {
    if (d.flag != row.flag) continue;
    out.aliases = d.aliases;
    out.commands = d.commands;
    if (d.low) out.low = *d.low;
    if (d.common) out.shown = Shown::short_help;
  }
  if (out.low < 0 && out.name == "max-tokens") out.help += "; -1 for no limit";
  return out;
}

Setting from_limit(const serve::LimitRow& row) {
  return {
      .name = join(split(row.name, '_'), "-"),
      .kind = Kind::integer,
      .value = std::string("N"),
      .fallback = fmt::format("{}", serve::Limits().*row.member),
      .commands = std::string("serve"),
      .help = std::string(row.help),
      .low = static_cast<double>(row.low),
      .high = static_cast<double>(row.high),
      .shown = long_help};
}

// The default a command gives in `commands`: "chat=256" -> "256"; nothing when
// the setting is not for this command.
std::optional<std::string> fallback_for(
    const Setting& setting,
    std::string_view command) {
  for (auto& entry : split(setting.commands, ' ')) {
    auto equals = entry.find('=');
    if (entry.substr(0, equals) != command) continue;
    return equals == std::string::npos ? setting.fallback
                                       : entry.substr(equals + 1);
  }
  return std::nullopt;
}

} // namespace

std::span<const Setting> settings() {
  static const auto table = [] {
    Settings out;
    for (auto part :
         {prompt_settings,
          running_settings,
          convert_settings,
          measure_settings,
          serve_settings,
          tools_settings})
      for (auto& row : part())
        out.push_back(std::move(row));
    auto at = std::find_if(out.begin(), out.end(), [](auto& s) {
      return s.name == "extra-eos-token";
    });
    std::vector<Setting> rows;
    for (auto& row : generation_settings())
      rows.push_back(from_library(row));
    out.insert(at, rows.begin(), rows.end());
    for (auto& row : serve::limit_rows())
      out.push_back(from_limit(row));
    return out;
  }();
  return table;
}

std::vector<Setting> settings_of(std::string_view command) {
  std::vector<Setting> out;
  for (auto& setting : settings()) {
    auto fallback = fallback_for(setting, command);
    if (!fallback) continue;
    out.push_back(setting);
    out.back().fallback = *fallback;
  }
  return out;
}

const Command* find_command(std::string_view name) {
  for (auto& command : commands())
    if (command.name == name) return &command;
  return nullptr;
}

} // namespace mlxlm::cli

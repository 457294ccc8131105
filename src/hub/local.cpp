#include "hub/local.h"

#include <algorithm>

#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> index_of(const fs::path& folder) {
  auto path = (folder / index_name).string();
  if (!is_file(path)) return std::nullopt;
  return read_file(path);
}

// Whether every file that the index names is there.
bool index_is_met(const std::string& index, const Listing& files) {
  try {
    const auto json = parse_json(index, index_name);
    for (const auto& [tensor, file] : json.at("weight_map").items()) {
      auto name = file.get<std::string>();
      if (std::none_of(files.begin(), files.end(), [&](auto& f) {
            return f.path == name;
          }))
        return false;
    }
  } catch (const std::exception&) {
    // The loader says what is wrong with it.
  }
  return true;
}

// Whether a split GGUF has all its parts, which its name counts.
bool parts_are_met(const Listing& files) {
  auto& first = files.front().path;
  if (!is_gguf_part(first)) return true;
  return std::to_string(100000 + files.size()).substr(1) ==
      first.substr(first.size() - 10, 5);
}

bool has(const Listing& files, std::string_view path) {
  return std::any_of(
      files.begin(), files.end(), [&](auto& f) { return f.path == path; });
}

} // namespace

Presence presence_by_files(
    const Repository& repository,
    std::string_view commit,
    const Want& want) {
  auto folder = repository.snapshot(commit);
  auto files = files_below(folder);
  if (files.empty()) return Presence::none;
  auto index = index_of(folder);
  Listing weights;
  try {
    weights = weight_files(files, want, index);
  } catch (const Error&) {
    return Presence::partial;
  }
  if (wants_gguf(files, want))
    return !weights.empty() && parts_are_met(weights) ? Presence::complete
                                                      : Presence::partial;
  bool whole = has(files, "config.json") &&
      (!want.weights || !index || index_is_met(*index, files));
  return whole ? Presence::complete : Presence::partial;
}

Listing files_below(const fs::path& folder) {
  Listing out;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end;
       it != end && !error;
       it.increment(error))
    if (auto size = size_on_disk(it->path()))
      out.push_back(
          {.path = it->path().lexically_relative(folder).generic_string(),
           .size = *size});
  std::sort(
      out.begin(), out.end(), [](auto& a, auto& b) { return a.path < b.path; });
  return out;
}

Presence presence(
    const Repository& repository,
    std::string_view commit,
    const Want& want) {
  auto folder = repository.snapshot(commit);
  if (!is_directory(folder.string())) return Presence::none;
  auto tree = repository.tree(commit);
  if (!tree) return presence_by_files(repository, commit, want);
  Listing wanted;
  try {
    wanted = weight_files(*tree, want, index_of(folder));
  } catch (const Error&) {
    return Presence::partial;
  }
  auto side = side_files(*tree, want);
  wanted.insert(wanted.end(), side.begin(), side.end());
  for (const auto& file : wanted)
    if (size_on_disk(repository.file(commit, file.path)) != file.size)
      return Presence::partial;
  return wanted.empty() ? Presence::none : Presence::complete;
}

std::string model_of_snapshot(
    const fs::path& folder,
    std::string_view variant) {
  std::vector<std::string> names;
  bool safetensors = false;
  for (const auto& file : files_below(folder)) {
    names.push_back(file.path);
    safetensors |= ends_with(file.path, ".safetensors");
  }
  bool config =
      std::find(names.begin(), names.end(), "config.json") != names.end();
  auto gguf = choose_gguf(names, variant);
  if (variant.empty() && config && (safetensors || gguf.empty()))
    return folder.string();
  if (!gguf.empty()) return (folder / gguf).string();
  fail(
      ErrorKind::io,
      folder.string(),
      "expected {}, found {}",
      variant.empty()
          ? "config.json or a .gguf file"
          : fmt::format("a .gguf file for \"{}\"", printable(variant)),
      names.empty() ? "no files" : "neither");
}

} // namespace mlxlm::hub

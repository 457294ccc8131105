// Which safetensors files of a folder make up its model, and the index file.

#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

namespace fs = std::filesystem;
constexpr const char* index_name = "model.safetensors.index.json";

// tensor -> file, or nothing when the folder has no index.
std::optional<std::map<std::string, std::string>> read_index(
    const std::string& folder) {
  auto path = join_path(folder, index_name);
  if (!is_file(path)) return std::nullopt;
  auto json = read_json(path);
  if (!json.is_object() || !json.contains("weight_map") ||
      !json["weight_map"].is_object())
    fail(
        ErrorKind::weights,
        index_name,
        "expected an object \"weight_map\", found none");
  std::map<std::string, std::string> out;
  for (auto& [tensor, file] : json["weight_map"].items()) {
    auto where = [&, &tensor = tensor] {
      return fmt::format("{}: {}", index_name, printable(tensor));
    };
    if (!file.is_string())
      fail(
          ErrorKind::weights,
          where(),
          "expected a file name, found {}",
          describe(file));
    auto name = file.get<std::string>();
    if (!ends_with(name, ".safetensors") ||
        name.find('/') != std::string::npos ||
        name.find('\\') != std::string::npos ||
        name.find('\0') != std::string::npos)
      fail(
          ErrorKind::weights,
          where(),
          "expected a .safetensors file in the same folder, found \"{}\"",
          printable(name));
    out.emplace(tensor, std::move(name));
  }
  return out;
}

// A link may lead to the hub cache's blobs beside the snapshot, nowhere else.
void check_inside(const std::string& folder, const std::string& file) {
  std::error_code error;
  auto home = fs::canonical(folder, error);
  auto real = fs::canonical(join_path(folder, file), error);
  if (error) fail(ErrorKind::io, file, "cannot resolve: {}", error.message());
  if (real.parent_path() == home) return;
  auto repository = home.parent_path().parent_path();
  if (real.parent_path() == repository / "blobs") return;
  // What repositories of a cache share: blobs/ab/HASH beside them.
  if (home.parent_path().filename() == "snapshots" &&
      real.parent_path().parent_path() == repository.parent_path() / "blobs")
    return;
  fail(
      ErrorKind::weights,
      file,
      "expected a file inside the model folder, found a link out of it");
}

std::vector<std::string> matching(
    const std::string& folder,
    std::string_view pattern) {
  std::vector<std::string> out;
  for (const auto& name : list_directory(folder))
    if (glob_match(pattern, name)) out.push_back(join_path(folder, name));
  return out;
}

// The files the index names if they are all there. An index none of whose files
// exist is left over from another layout and says nothing.
std::vector<std::string> indexed_files(
    const std::string& folder,
    const std::map<std::string, std::string>& index) {
  std::set<std::string> names, absent;
  for (const auto& [tensor, file] : index)
    names.insert(file);
  for (const auto& name : names)
    if (!is_file(join_path(folder, name))) absent.insert(name);
  if (absent.size() == names.size()) return {};
  if (!absent.empty())
    fail(
        ErrorKind::weights,
        index_name,
        "expected {} files, found {}: {} is missing; incomplete download?",
        names.size(),
        names.size() - absent.size(),
        printable(*absent.begin()));
  std::vector<std::string> out;
  for (const auto& name : names) {
    check_inside(folder, name);
    out.push_back(join_path(folder, name));
  }
  return out;
}

} // namespace

std::vector<std::string> safetensors_files(const std::string& folder) {
  if (auto index = read_index(folder)) {
    auto files = indexed_files(folder, *index);
    if (!files.empty()) return files;
  }
  for (const char* pattern :
       {"model*.safetensors", "weight*.safetensors", "*.safetensors"}) {
    auto files = matching(folder, pattern);
    if (!files.empty()) return files;
  }
  fail(
      ErrorKind::io,
      folder,
      "expected model.safetensors or another .safetensors file, found none");
}

std::shared_ptr<SafetensorsSource> open_safetensors(const std::string& folder) {
  auto files = safetensors_files(folder);
  auto source = std::make_shared<SafetensorsSource>(files);
  auto index = read_index(folder);
  if (!index || indexed_files(folder, *index).empty()) return source;
  for (const auto& [name, file] : *index) {
    const auto* tensor = source->find(name);
    if (tensor == nullptr)
      fail(
          ErrorKind::weights,
          index_name,
          "expected {} in {}, found no such tensor",
          printable(name),
          file);
    if (file_name(tensor->file->path()) != file)
      fail(
          ErrorKind::weights,
          index_name,
          "expected {} in {}, found it in {}",
          printable(name),
          file,
          file_name(tensor->file->path()));
  }
  return source;
}

} // namespace mlxlm

#include "hub/layout.h"

#include <algorithm>

#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view cache_tag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file is a cache directory tag created by mlxlm.\n"
    "# For information about cache directory tags, see:\n"
    "#   https://bford.info/cachedir/\n";

[[noreturn]] void fail_on(
    const fs::path& path,
    std::string_view what,
    const std::error_code& error) {
  fail(ErrorKind::io, path.string(), "{}: {}", what, error.message());
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_on(path, "cannot create the folder", error);
}

// Makes the folders between the snapshot and a file. One that is a link would
// lead the file out of the snapshot.
void make_folders_inside(const fs::path& snapshot, std::string_view path) {
  auto folder = snapshot;
  make_folder(folder);
  auto parts = split(path, '/');
  parts.pop_back();
  for (const auto& part : parts) {
    folder /= part;
    std::error_code error;
    if (fs::is_symlink(fs::symlink_status(folder, error)))
      fail(
          ErrorKind::io,
          folder.string(),
          "expected a folder of the snapshot, found a link");
    fs::create_directory(folder, error);
    if (error) fail_on(folder, "cannot create the folder", error);
  }
}

void replace_by_link(const fs::path& target, const fs::path& path) {
  // Under a name of its own first, so that the name is never without a file.
  auto temporary = path;
  temporary += ".link.tmp";
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (!error) fs::rename(temporary, path, error);
  if (error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw fs::filesystem_error("link", path, error);
  }
}

void put_file(const fs::path& blob, const fs::path& path, bool fresh) {
  std::error_code error;
  if (fresh) {
    fs::rename(blob, path, error);
    if (!error) return;
  }
  auto temporary = path;
  temporary += ".copy.tmp";
  fs::copy_file(blob, temporary, fs::copy_options::overwrite_existing, error);
  if (!error) fs::rename(temporary, path, error);
  if (error) fail_on(path, "cannot copy the file here", error);
}

} // namespace

Repository::Repository(std::string_view cache, const HubId& id)
    : cache_(cache), folder_(cache_ / ("models--" + id.org + "--" + id.name)) {}

fs::path Repository::locks() const {
  return cache_ / ".locks" / folder_.filename();
}

fs::path Repository::blob(std::string_view name) const {
  return folder_ / "blobs" / name;
}

fs::path Repository::incomplete(std::string_view name) const {
  return folder_ / "blobs" / (std::string(name) + ".incomplete");
}

fs::path Repository::lock(std::string_view name) const {
  return locks() / (std::string(name) + ".lock");
}

fs::path Repository::snapshot(std::string_view commit) const {
  return folder_ / "snapshots" / commit;
}

fs::path Repository::file(std::string_view commit, std::string_view path)
    const {
  return snapshot(commit) / path;
}

bool Repository::exists() const {
  return is_directory(folder_.string());
}

std::optional<std::string> Repository::commit_of(
    std::string_view revision) const {
  if (is_directory(snapshot(revision).string())) return std::string(revision);
  auto ref = folder_ / "refs" / revision;
  if (!is_file(ref.string())) return std::nullopt;
  auto commit = read_file(ref.string(), 4096);
  while (!commit.empty() &&
         std::isspace(static_cast<unsigned char>(commit.back())))
    commit.pop_back();
  if (!plain_component(commit)) return std::nullopt;
  return commit;
}

std::vector<std::string> Repository::commits() const {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator it(folder_ / "snapshots", error), end;
       it != end && !error;
       it.increment(error))
    if (auto name = it->path().filename().string(); plain_component(name))
      out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::pair<std::string, std::string>> Repository::refs() const {
  std::vector<std::pair<std::string, std::string>> out;
  auto root = folder_ / "refs";
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end;
       it != end && !error;
       it.increment(error)) {
    if (!is_file(it->path().string())) continue;
    auto name = it->path().lexically_relative(root).generic_string();
    if (!is_revision(name)) continue;
    if (auto commit = commit_of(name)) out.emplace_back(name, *commit);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::optional<Listing> Repository::tree(std::string_view commit) const {
  auto path = folder_ / "trees" / (std::string(commit) + ".json");
  if (!is_file(path.string())) return std::nullopt;
  try {
    return parse_tree_file(read_file(path.string()));
  } catch (const Error&) {
    return std::nullopt; // damaged or of a later format: as if it were not
                         // there
  }
}

void Repository::create() const {
  make_folder(folder_ / "blobs");
  make_folder(folder_ / "snapshots");
  make_folder(locks());
  auto tag = cache_ / "CACHEDIR.TAG";
  if (!is_file(tag.string())) write_file(tag.string(), cache_tag);
}

void Repository::write_ref(std::string_view revision, std::string_view commit)
    const {
  if (revision == commit) return;
  auto path = folder_ / "refs" / revision;
  make_folder(path.parent_path());
  if (is_file(path.string()) && read_file(path.string(), 4096) == commit)
    return;
  write_file(path.string(), commit);
}

void Repository::write_tree(std::string_view commit, const Listing& listing)
    const {
  make_folder(folder_ / "trees");
  auto path = folder_ / "trees" / (std::string(commit) + ".json");
  write_file(path.string(), to_tree_file(listing));
}

void Repository::place(
    std::string_view commit,
    const RemoteFile& file,
    bool symlinks,
    bool fresh) const {
  make_folders_inside(snapshot(commit), file.path);
  auto path = this->file(commit, file.path);
  if (symlinks) {
    auto depth = std::count(file.path.begin(), file.path.end(), '/');
    fs::path target = "../..";
    for (; depth > 0; --depth)
      target /= "..";
    target = target / "blobs" / file.blob();
    std::error_code error;
    if (fs::read_symlink(path, error) == target && !error) return;
    try {
      replace_by_link(target, path);
      return;
    } catch (const fs::filesystem_error&) {
      // No links on this file system: the file itself.
    }
  }
  put_file(blob(file.blob()), path, fresh);
}

std::optional<std::uint64_t> size_on_disk(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  auto size = fs::file_size(path, error);
  if (error) return std::nullopt;
  return size;
}

} // namespace mlxlm::hub

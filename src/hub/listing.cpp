#include "hub/listing.h"

#include <algorithm>
#include <set>

#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"
#include "hub/digest.h"
#include "hub/names.h"

namespace mlxlm::hub {
namespace {

constexpr std::size_t most_files = 200'000;
constexpr std::uint64_t largest_file = std::uint64_t{1} << 50;
constexpr JsonLimits limits = {
    .depth = 32,
    .bytes = std::size_t{64} << 20,
    .duplicate_keys = true};
constexpr const char* where = "the hub's answer";

const Json& member(const Json& object, const char* key, const char* what) {
  auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end())
    fail(
        ErrorKind::io,
        where,
        "expected {} with \"{}\", found {}",
        what,
        key,
        describe(object));
  return *found;
}

std::string text(const Json& object, const char* key, const char* what) {
  auto& value = member(object, key, what);
  if (!value.is_string())
    fail(
        ErrorKind::io,
        where,
        "expected text in \"{}\", found {}",
        key,
        describe(value));
  return value.get<std::string>();
}

std::string optional_hex(const Json& object, const char* key) {
  auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return "";
  auto value = found->get<std::string>();
  return is_sha256(value) ? value : "";
}

std::uint64_t size_of(const Json& object, const std::string& path) {
  auto& value = member(object, "size", "a file");
  if (!value.is_number_integer() || value < 0 || value > largest_file)
    fail(
        ErrorKind::io,
        where,
        "expected a size from 0 to 2^50 for {}, found {}",
        printable(path),
        describe(value));
  return value.get<std::uint64_t>();
}

std::string checked_path(std::string path) {
  if (!safe_path(path))
    fail(
        ErrorKind::io,
        where,
        "expected file names below the repository's folder, found \"{}\"",
        printable(path));
  return path;
}

void check_hashes(const RemoteFile& file) {
  if (!is_git_id(file.git_id) ||
      !(file.sha256.empty() || is_sha256(file.sha256)))
    fail(
        ErrorKind::io,
        where,
        "expected a git id and, for a large file, a SHA-256 for {}, found "
        "\"{}\" and \"{}\"",
        printable(file.path),
        printable(file.git_id),
        printable(file.sha256));
}

void add(RemoteFile file, Listing& listing) {
  check_hashes(file);
  if (listing.size() >= most_files)
    fail(
        ErrorKind::io,
        where,
        "expected at most {} files, found more",
        most_files);
  listing.push_back(std::move(file));
}

} // namespace

std::string parse_model_info(std::string_view json) {
  auto info = parse_json(json, where, ErrorKind::io, limits);
  auto sha = text(info, "sha", "an object");
  if (!is_commit(sha))
    fail(
        ErrorKind::io,
        where,
        "expected a commit of 40 hex digits, found \"{}\"",
        printable(sha));
  return sha;
}

void add_tree_page(std::string_view json, Listing& listing) {
  const auto page = parse_json(json, where, ErrorKind::io, limits);
  if (!page.is_array())
    fail(ErrorKind::io, where, "expected a list, found {}", describe(page));
  for (const auto& entry : page) {
    if (text(entry, "type", "a tree entry") != "file") continue;
    RemoteFile file;
    file.path = checked_path(text(entry, "path", "a file"));
    file.size = size_of(entry, file.path);
    file.git_id = text(entry, "oid", "a file");
    auto lfs = entry.find("lfs");
    if (lfs != entry.end() && !lfs->is_null()) {
      file.sha256 = text(*lfs, "oid", "a large file");
      file.size = size_of(*lfs, file.path);
    }
    file.xet_hash = optional_hex(entry, "xetHash");
    add(std::move(file), listing);
  }
}

void finish(Listing& listing) {
  std::sort(listing.begin(), listing.end(), [](auto& a, auto& b) {
    return a.path < b.path;
  });
  std::set<std::string_view> paths;
  for (const auto& file : listing)
    if (!paths.insert(file.path).second)
      fail(
          ErrorKind::io,
          where,
          "expected every file once, found {} twice",
          printable(file.path));
  for (const auto& file : listing)
    for (auto slash = file.path.find('/'); slash != std::string::npos;
         slash = file.path.find('/', slash + 1))
      if (paths.count(std::string_view(file.path).substr(0, slash)) != 0)
        fail(
            ErrorKind::io,
            where,
            "expected {} to be a folder, found a file of that name",
            printable(std::string_view(file.path).substr(0, slash)));
}

std::string to_tree_file(const Listing& listing) {
  Json files = Json::object();
  for (const auto& file : listing) {
    Json entry = {{"size", file.size}, {"blob_id", file.git_id}};
    if (!file.sha256.empty()) {
      entry["lfs_sha256"] = file.sha256;
      entry["lfs_size"] = file.size;
    }
    if (!file.xet_hash.empty()) entry["xet_hash"] = file.xet_hash;
    files[file.path] = std::move(entry);
  }
  return Json{{"format_version", 1}, {"files", std::move(files)}}.dump(1);
}

Listing parse_tree_file(std::string_view json) {
  const auto tree = parse_json(json, where, ErrorKind::io, limits);
  if (member(tree, "format_version", "a tree file") != 1)
    fail(ErrorKind::io, where, "expected a tree file of format 1");
  Listing listing;
  auto& files = member(tree, "files", "a tree file");
  if (!files.is_object())
    fail(ErrorKind::io, where, "expected files, found {}", describe(files));
  for (auto& [path, entry] : files.items()) {
    RemoteFile file;
    file.path = checked_path(path);
    file.git_id = text(entry, "blob_id", "a file");
    file.size = size_of(entry, path);
    auto sha256 = entry.find("lfs_sha256");
    if (sha256 != entry.end() && sha256->is_string())
      file.sha256 = sha256->get<std::string>();
    file.xet_hash = optional_hex(entry, "xet_hash");
    add(std::move(file), listing);
  }
  finish(listing);
  return listing;
}

// <https://…>; rel="next", <https://…>; rel="last"
std::string next_page(std::string_view link) {
  for (;;) {
    auto open = link.find('<');
    if (open == std::string_view::npos) return "";
    auto close = link.find('>', open);
    if (close == std::string_view::npos) return "";
    auto address = link.substr(open + 1, close - open - 1);
    auto rest = link.substr(close + 1);
    auto next = rest.find('<');
    auto attributes = lower_ascii(rest.substr(0, next));
    if (attributes.find("rel=\"next\"") != std::string::npos ||
        attributes.find("rel=next") != std::string::npos)
      return std::string(address);
    if (next == std::string_view::npos) return "";
    link = rest.substr(next);
  }
}

} // namespace mlxlm::hub

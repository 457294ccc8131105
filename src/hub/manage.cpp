#include "hub/manage.h"

#include <algorithm>
#include <set>

#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"
#include "hub/blob_fetch.h"
#include "hub/digest.h"
#include "hub/local.h"
#include "hub/lock.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

std::size_t sum(const Listing& files) {
  std::size_t bytes = 0;
  for (const auto& file : files)
    bytes += file.size;
  return bytes;
}

std::vector<HubId> cached(const Places& places) {
  std::vector<HubId> out;
  if (!is_directory(places.cache)) return out;
  for (const auto& folder : list_directory(places.cache)) {
    if (!starts_with(folder, "models--")) continue;
    auto rest = folder.substr(8);
    auto cut = rest.find("--");
    if (cut == std::string::npos) continue;
    auto id = parse_id(rest.substr(0, cut) + "/" + rest.substr(cut + 2));
    if (id) out.push_back(*id);
  }
  return out;
}

// {revision, commit}: every ref, then the commits that no ref names.
std::vector<std::pair<std::string, std::string>> revisions(
    const Repository& repository) {
  auto out = repository.refs();
  std::set<std::string> named;
  for (const auto& [revision, commit] : out)
    named.insert(commit);
  for (const auto& commit : repository.commits())
    if (named.count(commit) == 0) out.emplace_back(commit, commit);
  return out;
}

// One entry for a safetensors model, one for each GGUF file.
void add_snapshot(
    const Repository& repository,
    HubId id,
    const std::string& commit,
    std::vector<LocalModel>& out) {
  auto folder = repository.snapshot(commit);
  auto files = files_below(folder);
  if (files.empty() && repository.tree(commit) == std::nullopt) return;
  auto tree = repository.tree(commit).value_or(files);
  bool complete = presence(repository, commit, {}) == Presence::complete;
  std::vector<std::string> names;
  for (const auto& file : tree)
    names.push_back(file.path);
  if (!wants_gguf(tree, {})) {
    bool model = complete ||
        std::find(names.begin(), names.end(), "config.json") != names.end();
    if (model)
      out.push_back({id.text(), folder.string(), sum(files), complete});
    return;
  }
  auto usual = choose_gguf(names, "");
  for (const auto& file : files) {
    if (choose_gguf({file.path}, "") != file.path) continue;
    id.variant = file.path == usual ? "" : file.path;
    auto parts = weight_files(files, {.variant = file.path}, std::nullopt);
    bool whole = presence(repository, commit, {.variant = file.path}) ==
        Presence::complete;
    out.push_back(
        {id.text(), (folder / file.path).string(), sum(parts), whole});
  }
}

// The id of a model that is here. Throws Error(request).
HubId known(std::string_view reference, const Places& places) {
  auto id = parse_id(reference);
  if (id && Repository(places.cache, *id).exists()) return *id;
  std::vector<std::string> names;
  for (const auto& model : local_models(places)) {
    names.push_back(model.reference);
    if (model.reference == reference)
      fail(
          ErrorKind::request,
          reference,
          "not in the hub cache; remove {} yourself",
          model.path);
  }
  auto near = nearest(reference, names, 1);
  fail(
      ErrorKind::request,
      printable(reference),
      "no such model on this machine{}",
      near.empty() ? "" : "; did you mean " + near[0] + "?");
}

std::string commit_of(const Repository& repository, const HubId& id) {
  auto commit = repository.commit_of(id.revision);
  if (commit && is_directory(repository.snapshot(*commit).string()))
    return *commit;
  std::vector<std::string> here;
  for (const auto& [revision, unused] : revisions(repository))
    here.push_back(revision);
  fail(
      ErrorKind::request,
      id.text(),
      "expected a revision that is here, found only {}",
      here.empty() ? "none" : join(here, ", "));
}

void check_idle(const Repository& repository, const HubId& id) {
  std::error_code error;
  for (fs::directory_iterator it(repository.locks(), error), end;
       it != end && !error;
       it.increment(error))
    if (FileLock::held(it->path()))
      fail(
          ErrorKind::request,
          id.text(),
          "another process is fetching it; end that first");
}

// What a snapshot's file leads to in blobs/, or the file itself.
fs::path first_hop(const fs::path& file) {
  std::error_code error;
  auto target = fs::read_symlink(file, error);
  return error ? file : (file.parent_path() / target).lexically_normal();
}

std::set<fs::path> blobs_of(
    const Repository& repository,
    std::string_view commit) {
  std::set<fs::path> out;
  auto folder = repository.snapshot(commit);
  for (const auto& file : files_below(folder))
    out.insert(first_hop(folder / file.path));
  return out;
}

std::size_t remove_revision(const Repository& repository, const HubId& id) {
  auto commit = commit_of(repository, id);
  auto own = blobs_of(repository, commit);
  for (const auto& other : repository.commits())
    if (other != commit)
      for (const auto& blob : blobs_of(repository, other))
        own.erase(blob);
  std::size_t freed = 0;
  std::error_code ignored;
  for (const auto& [revision, of] : repository.refs())
    if (of == commit)
      fs::remove(repository.folder() / "refs" / revision, ignored);
  for (const auto& blob : own) {
    freed += size_on_disk(blob).value_or(0);
    fs::remove(blob, ignored);
  }
  fs::remove_all(repository.snapshot(commit), ignored);
  fs::remove(repository.folder() / "trees" / (commit + ".json"), ignored);
  return freed;
}

// The hash a file must have: by its listing, or by the name of its blob.
std::string expected_hash(
    const std::optional<Listing>& tree,
    const fs::path& folder,
    const RemoteFile& file) {
  if (tree)
    for (const auto& listed : *tree)
      if (listed.path == file.path) return listed.blob();
  return first_hop(folder / file.path).filename().string();
}

} // namespace

std::vector<LocalModel> local_models(const Places& places) {
  std::vector<LocalModel> out;
  for (const auto& name : short_names())
    if (auto path = carried(name, places); !path.empty())
      out.push_back(
          {std::string(name.name), path, size_on_disk(path).value_or(0)});
  for (auto id : cached(places)) {
    Repository repository(places.cache, id);
    for (const auto& [revision, commit] : revisions(repository)) {
      id.revision = revision;
      add_snapshot(repository, id, commit, out);
    }
  }
  return out;
}

std::size_t remove_model(std::string_view reference, const Places& places) {
  auto id = known(reference, places);
  if (!id.variant.empty())
    fail(
        ErrorKind::request,
        reference,
        "expected org/name[@revision]; one variant alone is not removed");
  Repository repository(places.cache, id);
  check_idle(repository, id);
  bool others = reference.find('@') != std::string_view::npos &&
      repository.commits().size() > 1;
  if (others) return remove_revision(repository, id);
  if (reference.find('@') != std::string_view::npos) commit_of(repository, id);
  auto freed = sum(files_below(repository.folder() / "blobs"));
  std::error_code error;
  fs::remove_all(repository.folder(), error);
  if (error)
    fail(
        ErrorKind::io,
        repository.folder().string(),
        "cannot remove: {}",
        error.message());
  fs::remove_all(repository.locks(), error);
  return freed;
}

std::vector<FileCheck> verify_model(
    std::string_view reference,
    const Places& places,
    const DownloadControl& control) {
  auto id = known(reference, places);
  Repository repository(places.cache, id);
  auto commit = commit_of(repository, id);
  auto folder = repository.snapshot(commit);
  auto tree = repository.tree(commit);
  auto files = files_below(folder);
  DownloadProgress progress;
  progress.total = sum(files);
  progress.files = int(files.size());
  auto read = [&](std::size_t bytes) {
    progress.done += bytes;
    if (control.progress) control.progress(progress);
    if (control.cancelled && control.cancelled())
      throw Interrupted(ErrorKind::io, "the check was interrupted");
  };
  std::vector<FileCheck> out;
  for (auto& file : files) {
    auto hash = expected_hash(tree, folder, file);
    (is_sha256(hash) ? file.sha256 : file.git_id) = hash;
    FileCheck check{file.path, file.size, "expected a blob named by its hash"};
    if (is_sha256(hash) || is_git_id(hash))
      check.problem = damage(folder / file.path, file, read);
    out.push_back(std::move(check));
    ++progress.files_done;
  }
  return out;
}

std::string fetch(
    std::string_view reference,
    const Places& places,
    const FetchOptions& options) {
  if (!is_hub_id(reference)) return resolve(reference, places);
  auto id = *parse_id(reference);
  Repository repository(places.cache, id);
  Want want{.variant = id.variant, .patterns = {}, .weights = options.weights};
  auto commit = repository.commit_of(id.revision);
  if (commit && presence(repository, *commit, want) == Presence::complete)
    return model_of_snapshot(repository.snapshot(*commit), id.variant);
  auto downloader = options.downloader;
  if (!downloader) {
    auto settings = hub_options_from_environment();
    settings.cache = places.cache;
    // Offline, what can be run is good enough, whatever else is listed.
    if (settings.offline && commit &&
        presence_by_files(repository, *commit, want) == Presence::complete)
      return model_of_snapshot(repository.snapshot(*commit), id.variant);
    downloader = make_hub_downloader(std::move(settings));
  }
  auto request = parse_hub_id(reference);
  request.weights = options.weights;
  return model_of_snapshot(
      downloader->download(request, options.control), id.variant);
}

} // namespace mlxlm::hub

namespace mlxlm {

DownloadRequest parse_hub_id(std::string_view reference) {
  auto id = hub::parse_id(reference);
  if (!id)
    fail(
        ErrorKind::request,
        "model",
        "expected a hub id org/name[:variant][@revision], found \"{}\"",
        printable(reference));
  return {.id = id->id(), .revision = id->revision, .variant = id->variant};
}

std::string fetch(std::string_view reference, const FetchOptions& options) {
  return hub::fetch(reference, hub::Places::from_environment(), options);
}

std::vector<LocalModel> local_models() {
  return hub::local_models(hub::Places::from_environment());
}

std::size_t remove_model(std::string_view reference) {
  return hub::remove_model(reference, hub::Places::from_environment());
}

std::vector<FileCheck> verify_model(
    std::string_view reference,
    const DownloadControl& control) {
  return hub::verify_model(reference, hub::Places::from_environment(), control);
}

} // namespace mlxlm

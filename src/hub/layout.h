// One model's folder in the Hugging Face cache:
//   models--org--name/blobs/HASH          the bytes, named by what they hash to
//                    /snapshots/COMMIT/…  links to blobs under the files' names
//                    /refs/REVISION       the commit a branch or tag led to
//                    /trees/COMMIT.json   the listing of a commit
//   .locks/models--org--name/HASH.lock    who writes a blob
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/listing.h"
#include "hub/names.h"

namespace mlxlm::hub {

class Repository {
 public:
  Repository(std::string_view cache, const HubId& id);

  std::filesystem::path folder() const {
    return folder_;
  }
  std::filesystem::path locks() const;
  std::filesystem::path blob(std::string_view name) const;
  std::filesystem::path incomplete(std::string_view name) const;
  std::filesystem::path lock(std::string_view name) const;
  std::filesystem::path snapshot(std::string_view commit) const;
  std::filesystem::path file(std::string_view commit, std::string_view path)
      const;

  bool exists() const;
  // The revision itself when it is a commit that is here, else what the ref
  // says.
  std::optional<std::string> commit_of(std::string_view revision) const;
  std::vector<std::string> commits() const; // that have a snapshot
  // {revision, commit}, sorted.
  std::vector<std::pair<std::string, std::string>> refs() const;
  // The commit's listing; nothing when there is none or it cannot be read.
  std::optional<Listing> tree(std::string_view commit) const;

  // Makes the folders of a download and the tag that backup tools look for.
  void create() const;
  void write_ref(std::string_view revision, std::string_view commit) const;
  void write_tree(std::string_view commit, const Listing& listing) const;
  // Puts the blob under the file's name: a relative link, or the file itself
  // where links do not work (moved when `fresh`, as no other name needs it).
  void place(
      std::string_view commit,
      const RemoteFile& file,
      bool symlinks,
      bool fresh) const;

 private:
  std::filesystem::path cache_, folder_;
};

// The size of a regular file behind links, or nothing.
std::optional<std::uint64_t> size_on_disk(const std::filesystem::path& path);

} // namespace mlxlm::hub

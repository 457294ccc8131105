// One file of a repository into blobs/: resumed from HASH.incomplete, hashed as
// it comes, renamed to HASH only when it is exactly that.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "hub/http.h"
#include "hub/layout.h"

namespace mlxlm::hub {

// What the files of a download share.
struct Shared {
  const HubOptions& options;
  const Repository& repository;
  std::string id, commit;
  std::atomic<std::uint64_t> done{0}; // bytes of all files
  std::atomic<std::uint64_t> received{0}; // over the network
  std::atomic<bool> stop{false};
  // Sleeps and says why in the progress; throws Interrupted.
  std::function<void(double seconds, const std::string& why)> pause;

  std::string page() const {
    return options.endpoint + "/" + id;
  }
};

// Makes the blob present and puts it under its name in the snapshot.
void fetch_blob(const RemoteFile& file, HttpClient& client, Shared& shared);

// Whether a file is here under its final name with the right size.
bool is_here(const RemoteFile& file, const Shared& shared);

// Reads a whole file and compares; `read` hears how many bytes and may throw.
// Returns the problem, or nothing.
std::string damage(
    const std::filesystem::path& path,
    const RemoteFile& file,
    const std::function<void(std::size_t)>& read);

} // namespace mlxlm::hub

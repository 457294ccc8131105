// Entries as files of a folder, each whole or not there.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "disk/entry.h"

namespace mlxlm::disk {

class EntryFolder {
 public:
  // Makes the folder. Throws Error(io) when that cannot be.
  explicit EntryFolder(std::string folder);

  // Foreign entries have other names.
  static std::string name(const Key& key, std::string_view owner);

  // Written beside, synced, renamed. False: the disk refused, and nothing is
  // left of it.
  bool write(const std::string& name, const Entry& entry) const;
  // The whole file, as far as it is no longer than `most` bytes.
  std::optional<std::vector<std::byte>> read(
      const std::string& name,
      std::uint64_t most) const;
  bool has(const std::string& name) const;
  void remove(const std::string& name) const;

  struct Listed {
    std::string name;
    std::uint64_t bytes;
    std::int64_t changed; // microseconds since 1970
  };
  std::vector<Listed> list() const;
  // Removes what writers left that live no more.
  void sweep() const;

  const std::string& path() const {
    return folder_;
  }

 private:
  std::string at(const std::string& name) const;

  std::string folder_;
};

} // namespace mlxlm::disk

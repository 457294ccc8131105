// A lock file as huggingface_hub's: flock, so that it goes with its process.
#pragma once

#include <filesystem>
#include <functional>

namespace mlxlm::hub {

class FileLock {
 public:
  // Waits; `waiting` sleeps between two looks (it may throw). On a
  // file system without locks it holds nothing: writers then rely on writing
  // the same bytes at the same places.
  FileLock(
      const std::filesystem::path& path,
      const std::function<void()>& waiting);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  // Whether somebody holds the lock now.
  static bool held(const std::filesystem::path& path);

 private:
  int fd_ = -1;
};

} // namespace mlxlm::hub

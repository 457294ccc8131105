#include "hub/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace mlxlm::hub {
namespace {

int open_lock(const std::filesystem::path& path) {
  // Writable by the group: several users may share a cache.
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
  if (fd < 0)
    fail(
        ErrorKind::io,
        path.string(),
        "cannot open the lock file: {}",
        std::strerror(errno));
  return fd;
}

// Somebody may have removed the file between our opening and locking it; the
// lock then guards nothing.
bool still_named(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && info.st_nlink > 0;
}

bool contended(int error) {
  return error == EWOULDBLOCK || error == EAGAIN || error == EACCES ||
      error == EINTR;
}

} // namespace

FileLock::FileLock(
    const std::filesystem::path& path,
    const std::function<void()>& waiting) {
  for (;;) {
    fd_ = open_lock(path);
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) {
      if (still_named(fd_)) return;
    } else if (!contended(errno)) {
      return; // no locks here
    }
    ::close(fd_);
    fd_ = -1;
    waiting();
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

bool FileLock::held(const std::filesystem::path& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  bool held = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && contended(errno);
  ::close(fd);
  return held;
}

} // namespace mlxlm::hub

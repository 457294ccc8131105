#include "disk/entry_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "core/check.h"
#include "core/strings.h"
#include "disk/checksum.h"

namespace mlxlm::disk {
namespace {

constexpr std::string_view entry_end = ".entry";
constexpr std::string_view part_begin = "part-";

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  explicit operator bool() const {
    return fd_ >= 0;
  }
  int fd() const {
    return fd_;
  }

 private:
  int fd_;
};

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

std::string part_name() {
  static std::atomic<std::uint64_t> last{0};
  auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return fmt::format("{}{}-{:x}-{}", part_begin, getpid(), now, ++last);
}

std::int64_t microseconds(const struct stat& about) {
#ifdef __APPLE__
  const auto& t = about.st_mtimespec;
#else
  const auto& t = about.st_mtim;
#endif
  return std::int64_t{t.tv_sec} * 1000000 + t.tv_nsec / 1000;
}

template <typename Visit>
void each_name(const std::string& folder, const Visit& visit) {
  auto* dir = opendir(folder.c_str());
  if (!dir) return;
  while (const auto* entry = readdir(dir))
    visit(std::string(entry->d_name));
  closedir(dir);
}

} // namespace

EntryFolder::EntryFolder(std::string folder) : folder_(std::move(folder)) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (!std::filesystem::is_directory(folder_, error))
    fail(
        ErrorKind::io,
        folder_,
        "expected a folder that can be made, found {}",
        error ? error.message() : "something else of that name");
}

std::string EntryFolder::at(const std::string& name) const {
  return folder_ + "/" + name;
}

std::string EntryFolder::name(const Key& key, std::string_view owner) {
  auto bytes = std::as_bytes(std::span(owner.data(), owner.size()));
  return fmt::format("{}-{:016x}{}", hex(key), checksum(bytes), entry_end);
}

bool EntryFolder::write(const std::string& name, const Entry& entry) const {
  auto part = at(part_name());
  File file(open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return false;
  // Held as long as we live: what nobody holds may be swept away.
  flock(file.fd(), LOCK_EX | LOCK_NB);
  bool done = write_all(file.fd(), entry_head(entry)) &&
      write_all(file.fd(), entry.payload) && fsync(file.fd()) == 0 &&
      std::rename(part.c_str(), at(name).c_str()) == 0;
  if (!done) unlink(part.c_str());
  return done;
}

std::optional<std::vector<std::byte>> EntryFolder::read(
    const std::string& name,
    std::uint64_t most) const {
  File file(open(at(name).c_str(), O_RDONLY | O_CLOEXEC));
  struct stat about {};
  if (!file || fstat(file.fd(), &about) != 0 || !S_ISREG(about.st_mode))
    return std::nullopt;
  if (static_cast<std::uint64_t>(about.st_size) > most) return std::nullopt;
  std::vector<std::byte> bytes(static_cast<std::size_t>(about.st_size));
  std::size_t got = 0;
  while (got < bytes.size()) {
    auto n = ::read(file.fd(), bytes.data() + got, bytes.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::nullopt;
    got += static_cast<std::size_t>(n);
  }
  return bytes;
}

bool EntryFolder::has(const std::string& name) const {
  return access(at(name).c_str(), F_OK) == 0;
}

void EntryFolder::remove(const std::string& name) const {
  // Names may come from an index that somebody else wrote.
  bool plain = name.find('/') == std::string::npos &&
      (ends_with(name, entry_end) || starts_with(name, part_begin));
  if (plain) unlink(at(name).c_str());
}

std::vector<EntryFolder::Listed> EntryFolder::list() const {
  std::vector<Listed> out;
  each_name(folder_, [&](const std::string& name) {
    struct stat about {};
    if (!ends_with(name, entry_end) || stat(at(name).c_str(), &about) != 0)
      return;
    out.push_back(
        {name, static_cast<std::uint64_t>(about.st_size), microseconds(about)});
  });
  return out;
}

void EntryFolder::sweep() const {
  std::vector<std::string> parts;
  each_name(folder_, [&](const std::string& name) {
    if (starts_with(name, part_begin)) parts.push_back(name);
  });
  for (const auto& name : parts) {
    File file(open(at(name).c_str(), O_WRONLY | O_CLOEXEC));
    if (file && flock(file.fd(), LOCK_EX | LOCK_NB) == 0) remove(name);
  }
}

} // namespace mlxlm::disk

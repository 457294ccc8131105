#include "core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/check.h"

namespace mlxlm {
namespace {

[[noreturn]] void fail_errno(const std::string& path, std::string_view what) {
  fail(ErrorKind::io, path, "{}: {}", what, std::strerror(errno));
}

// Closes on every way out.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

std::size_t open_regular(const std::string& path, Descriptor& file) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) fail_errno(path, "cannot open");
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail_errno(path, "cannot stat");
  if (!S_ISREG(info.st_mode))
    fail(ErrorKind::io, path, "expected a regular file, found something else");
  return static_cast<std::size_t>(info.st_size);
}

void write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path, "cannot write");
    content.remove_prefix(static_cast<std::size_t>(n));
  }
}

} // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  Descriptor file{-1};
  size_ = open_regular(path, file);
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (p == MAP_FAILED) fail_errno(path, "cannot map");
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::size_t offset, std::size_t size) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::size_t first = (offset + page - 1) / page * page;
  std::size_t last = std::min(offset + size, size_) / page * page;
  if (data_ == nullptr || first >= last) return;
  ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

void MappedFile::prefetch(std::size_t offset, std::size_t size) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::size_t first = offset / page * page;
  std::size_t last = std::min(offset + size, size_);
  if (data_ == nullptr || first >= last) return;
  ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_WILLNEED);
}

std::string read_file(const std::string& path, std::size_t max_bytes) {
  Descriptor file{-1};
  std::size_t size = open_regular(path, file);
  if (size > max_bytes)
    fail(
        ErrorKind::io,
        path,
        "expected at most {} bytes, found {}",
        max_bytes,
        size);
  std::string out(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    ssize_t n = ::read(file.fd, out.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path, "cannot read");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

void write_file(const std::string& path, std::string_view content) {
  std::string temporary =
      fmt::format("{}.{:08x}.tmp", path, std::random_device{}());
  try {
    Descriptor file{::open(
        temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
    if (file.fd < 0) fail_errno(temporary, "cannot create");
    write_all(file.fd, content, temporary);
    if (::fsync(file.fd) != 0) fail_errno(temporary, "cannot flush");
    if (::rename(temporary.c_str(), path.c_str()) != 0)
      fail_errno(path, "cannot rename to");
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

bool is_file(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

bool is_directory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

std::vector<std::string> list_directory(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path, error))
    names.push_back(entry.path().filename().string());
  if (error) fail(ErrorKind::io, path, "cannot list: {}", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::string file_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/')
    path.remove_suffix(1);
  auto slash = path.rfind('/');
  return std::string(
      slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::string join_path(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  return fmt::format(
      "{}{}{}", directory, directory.back() == '/' ? "" : "/", name);
}

} // namespace mlxlm

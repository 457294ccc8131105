// Files: bounded reads, read-only mappings, atomic writes. All errors are
// Error(io) naming the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

// A read-only, private mapping of a whole regular file. Empty files map to an
// empty span.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const {
    return {data_, size_};
  }
  const std::string& path() const {
    return path_;
  }
  // Gives the pages wholly inside the range back to the system; reading them
  // again reads the file again.
  void drop(std::size_t offset, std::size_t size) const;
  // Asks the system to read the range ahead.
  void prefetch(std::size_t offset, std::size_t size) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

std::string read_file(
    const std::string& path,
    std::size_t max_bytes = std::size_t{256} << 20);
// Writes beside `path` and renames: never a half-written file under its name.
void write_file(const std::string& path, std::string_view content);

bool is_file(const std::string& path);
bool is_directory(const std::string& path);
// Names (not paths) of the entries, sorted.
std::vector<std::string> list_directory(const std::string& path);
std::string file_name(std::string_view path);
std::string join_path(std::string_view directory, std::string_view name);

} // namespace mlxlm

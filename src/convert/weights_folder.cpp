#include "convert/weights_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm::converting {
namespace {

constexpr const char* record_name = ".convert-done"; // a task's number a line
constexpr const char* description_name = ".convert-plan";
// How much may have to be written again after a power cut.
constexpr std::size_t flush_bytes = std::size_t{256} << 20;

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
  fail(ErrorKind::io, path, "{}: {}", what, std::strerror(errno));
}

std::string header_of(const Json& tensors) {
  auto text = tensors.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string out(8, '\0');
  const std::uint64_t size = text.size();
  for (int i = 0; i < 8; ++i)
    out[static_cast<std::size_t>(i)] =
        static_cast<char>(size >> (8 * i) & 0xff);
  return out + text;
}

Json metadata() {
  return {{"format", "mlx"}};
}

} // namespace

std::size_t FilePlan::bytes() const {
  std::size_t n = 0;
  for (auto size : data_bytes)
    n += size;
  return n;
}

FilePlan plan_files(const std::vector<Task>& tasks, std::size_t shard_bytes) {
  FilePlan out;
  std::vector<Json> headers;
  std::map<std::string, std::size_t> file_of;
  for (const auto& task : tasks) {
    auto& places = out.places.emplace_back();
    for (const auto& tensor : task.outputs) {
      const auto bytes = tensor.bytes();
      if (headers.empty() || out.data_bytes.back() + bytes > shard_bytes) {
        headers.push_back({{"__metadata__", metadata()}});
        out.data_bytes.push_back(0);
      }
      auto& used = out.data_bytes.back();
      places.push_back({headers.size() - 1, used});
      headers.back()[tensor.name] = {
          {"dtype", info(tensor.storage).name},
          {"shape", tensor.shape},
          {"data_offsets", {used, used + bytes}}};
      if (!file_of.emplace(tensor.name, headers.size() - 1).second)
        fail(
            ErrorKind::weights,
            printable(tensor.name),
            "expected one tensor of this name, found two");
      used += bytes;
    }
  }
  const auto count = headers.size();
  for (std::size_t i = 0; i < count; ++i) {
    out.names.push_back(
        count == 1
            ? "model.safetensors"
            : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count));
    out.headers.push_back(header_of(headers[i]));
  }
  auto map = Json::object();
  for (const auto& [name, file] : file_of)
    map[name] = out.names[file];
  out.index = {{"metadata", Json::object()}, {"weight_map", std::move(map)}};
  return out;
}

class WeightsFolder::File {
 public:
  File(std::string path, int flags) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0644);
    if (fd_ < 0) fail_errno(path_, "cannot open");
  }
  ~File() {
    ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void write_at(std::size_t offset, const void* data, std::size_t size) {
    const auto* at = static_cast<const char*>(data);
    while (size > 0) {
      auto n = ::pwrite(fd_, at, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno(path_, "cannot write");
      at += n;
      offset += static_cast<std::size_t>(n);
      size -= static_cast<std::size_t>(n);
    }
  }
  void append(std::string_view text) {
    while (!text.empty()) {
      auto n = ::write(fd_, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno(path_, "cannot write");
      text.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void resize(std::size_t size) {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0)
      fail_errno(path_, "cannot make room");
  }
  void flush() {
    if (::fsync(fd_) != 0) fail_errno(path_, "cannot flush");
  }
  bool try_lock() {
    return ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
  }

 private:
  std::string path_;
  int fd_ = -1;
};

// An interrupted run keeps what it has.
WeightsFolder::~WeightsFolder() {
  if (!record_) return;
  try {
    flush();
  } catch (const std::exception&) {
    // Then it is made again.
  }
}

WeightsFolder::WeightsFolder(
    std::string folder,
    const FilePlan& plan,
    const std::string& description)
    : folder_(std::move(folder)), plan_(plan) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) fail(ErrorKind::io, folder_, "cannot create: {}", error.message());
  lock();
  resume(description);
}

void WeightsFolder::lock() {
  auto path = join_path(folder_, ".convert-lock");
  lock_ = std::make_unique<File>(path, O_RDWR | O_CREAT);
  if (!lock_->try_lock())
    fail(
        ErrorKind::io,
        folder_,
        "expected to be the only one that writes it, found another process");
}

void WeightsFolder::resume(const std::string& description) {
  const auto plan_path = join_path(folder_, description_name);
  const auto record_path = join_path(folder_, record_name);
  const bool same = is_file(plan_path) && read_file(plan_path) == description;
  if (!same) {
    std::error_code ignored;
    std::filesystem::remove(record_path, ignored);
    write_file(plan_path, description);
  }
  if (same && is_file(record_path))
    for (const auto& line : split(read_file(record_path), '\n')) {
      std::size_t task = 0;
      auto end = line.data() + line.size();
      if (std::from_chars(line.data(), end, task).ptr == end && !line.empty() &&
          task < plan_.places.size())
        done_.insert(task);
    }
  open_files(done_.empty());
  record_ = std::make_unique<File>(record_path, O_WRONLY | O_CREAT | O_APPEND);
  // A line that was cut off must not run into the next.
  record_->append("\n");
}

void WeightsFolder::open_files(bool fresh) {
  for (std::size_t i = 0; i < plan_.names.size(); ++i) {
    auto path = join_path(folder_, plan_.names[i]);
    const auto size = plan_.headers[i].size() + plan_.data_bytes[i];
    std::error_code missing;
    if (!fresh && std::filesystem::file_size(path, missing) != size)
      fail(
          ErrorKind::io,
          path,
          "expected the file of the interrupted run, {} bytes, found another; remove {} and begin again",
          size,
          folder_);
    auto& file = files_.emplace_back(
        std::make_unique<File>(path, O_RDWR | O_CREAT | (fresh ? O_TRUNC : 0)));
    const auto& header = plan_.headers[i];
    file->write_at(0, header.data(), header.size());
    file->resize(size);
  }
}

void WeightsFolder::write(
    const Place& place,
    std::size_t offset,
    std::span<const std::byte> bytes) {
  MLXLM_CHECK(
      place.offset + offset + bytes.size() <= plan_.data_bytes[place.file],
      "a tensor stays in its place");
  const auto header = plan_.headers[place.file].size();
  files_[place.file]->write_at(
      header + place.offset + offset, bytes.data(), bytes.size());
}

void WeightsFolder::finish(std::size_t task, std::size_t bytes) {
  unrecorded_.push_back(task);
  unflushed_ += bytes;
  if (unflushed_ >= flush_bytes) flush();
}

// First the weights, then the record that says they are there.
void WeightsFolder::flush() {
  for (auto& file : files_)
    file->flush();
  std::string lines;
  for (auto task : unrecorded_)
    lines += fmt::format("{}\n", task);
  record_->append(lines);
  record_->flush();
  unrecorded_.clear();
  unflushed_ = 0;
}

void WeightsFolder::close() {
  flush();
  files_.clear();
  record_.reset();
  std::error_code ignored;
  for (const char* name : {record_name, description_name, ".convert-lock"})
    std::filesystem::remove(join_path(folder_, name), ignored);
  lock_.reset();
}

} // namespace mlxlm::converting

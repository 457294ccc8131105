#include "hub/blob_fetch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/strings.h"
#include "hub/address.h"
#include "hub/digest.h"
#include "hub/lock.h"
#include "hub/retry.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t read_piece = 1 << 20;

// HASH.incomplete: what has come so far, and its digest. Writing goes to
// explicit places, so that two writers where locks do not work write the same.
class PartialFile {
 public:
  PartialFile(const fs::path& path, const RemoteFile& file, Shared& shared)
      : path_(path), file_(file), shared_(shared) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd_ < 0) fail_errno("cannot open");
    struct stat info {};
    if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode))
      fail(ErrorKind::io, path_.string(), "expected a regular file");
    digest_ = digest_for(file_.blob(), file_.size);
    if (std::uint64_t(info.st_size) > file_.size)
      restart();
    else
      take_up();
  }
  ~PartialFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  std::uint64_t size() const {
    return size_;
  }
  void restart() {
    if (::ftruncate(fd_, 0) != 0) fail_errno("cannot empty");
    shared_.done -= size_;
    size_ = 0;
    digest_ = digest_for(file_.blob(), file_.size);
  }
  void append(std::span<const std::byte> bytes) {
    digest_->update(bytes);
    for (auto rest = bytes; !rest.empty();) {
      auto n = ::pwrite(fd_, rest.data(), rest.size(), off_t(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno("cannot write");
      rest = rest.subspan(std::size_t(n));
      count(std::size_t(n));
    }
  }
  // The digest's verdict; the digest is used up.
  std::string hash() {
    return digest_->finish();
  }
  void keep_as(const fs::path& blob) {
    if (::fsync(fd_) != 0) fail_errno("cannot flush");
    std::error_code error;
    fs::rename(path_, blob, error);
    if (error)
      fail(
          ErrorKind::io,
          blob.string(),
          "cannot rename to it: {}",
          error.message());
  }
  void discard() {
    shared_.done -= size_;
    size_ = 0;
    ::unlink(path_.c_str());
  }

 private:
  [[noreturn]] void fail_errno(std::string_view what) const {
    fail(ErrorKind::io, path_.string(), "{}: {}", what, std::strerror(errno));
  }
  void count(std::size_t bytes) {
    size_ += bytes;
    shared_.done += bytes;
  }
  // Hashes what an earlier try left.
  void take_up() {
    std::vector<std::byte> piece(read_piece);
    for (;;) {
      auto n = ::pread(fd_, piece.data(), piece.size(), off_t(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno("cannot read");
      if (n == 0) return;
      if (shared_.stop) throw_interrupted();
      auto room = std::min<std::uint64_t>(std::uint64_t(n), file_.size - size_);
      digest_->update(std::span(piece).first(room));
      count(room);
      if (room < std::uint64_t(n)) return restart();
    }
  }

  fs::path path_;
  const RemoteFile& file_;
  Shared& shared_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::unique_ptr<Digest> digest_;
};

struct ContentRange {
  std::uint64_t first = 0, total = 0;
};

// "bytes 100-199/200"
std::optional<ContentRange> parse_range(std::string_view text) {
  if (!starts_with(text, "bytes ")) return std::nullopt;
  auto number = [&](std::size_t at, char end) -> std::optional<std::uint64_t> {
    std::uint64_t value = 0;
    auto last = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data() + at, last, value);
    if (error != std::errc()) return std::nullopt;
    if (end == '\0' ? stop != last : stop == last || *stop != end)
      return std::nullopt;
    return value;
  };
  auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  auto first = number(6, '-'), total = number(slash + 1, '\0');
  if (!first || !total) return std::nullopt;
  return ContentRange{*first, *total};
}

// What came is not what was asked for: empty the file and ask again.
struct StartAgain {
  std::string why;
};

class BlobSink final : public BodySink {
 public:
  BlobSink(const RemoteFile& file, Shared& shared, PartialFile& partial)
      : file_(file), shared_(shared), partial_(partial) {}

  void begin(const Answer& answer) override {
    check_hub(answer);
    etag_ = answer.header("etag");
    auto expected = file_.size;
    if (answer.status == 206) {
      auto range = parse_range(answer.header("content-range"));
      if (!range || range->first != partial_.size() ||
          range->total != file_.size)
        throw StartAgain{fmt::format(
            "expected bytes from {} of {}, found \"{}\"",
            partial_.size(),
            file_.size,
            printable(answer.header("content-range")))};
      return;
    }
    if (partial_.size() > 0) partial_.restart();
    auto length = answer.header("content-length");
    if (!length.empty() && length != std::to_string(expected))
      throw StartAgain{fmt::format(
          "expected {} bytes, found {}", expected, printable(length))};
  }
  void write(std::span<const std::byte> bytes) override {
    if (bytes.size() > file_.size - partial_.size())
      throw StartAgain{fmt::format(
          "expected {} bytes, found that more are sent", file_.size)};
    partial_.append(bytes);
    shared_.received += bytes.size();
  }
  const std::string& etag() const {
    return etag_;
  }

 private:
  // The hub itself says which commit and which file it is serving.
  void check_hub(const Answer& answer) const {
    auto check = [&](const char* name, const std::string& expected) {
      auto found = answer.hub.find(name);
      if (found == answer.hub.end()) return;
      auto value = plain_etag(found->second);
      if (value != expected)
        fail(
            ErrorKind::io,
            file_.path,
            "expected {} {}, found {}; the file changed on the hub",
            name,
            expected,
            printable(value));
    };
    check("x-repo-commit", shared_.commit);
    check("x-linked-etag", file_.blob());
    check("x-linked-size", std::to_string(file_.size));
  }

  const RemoteFile& file_;
  Shared& shared_;
  PartialFile& partial_;
  std::string etag_;
};

// One request. Weak ETags cannot vouch for a range.
Answer ask(
    const RemoteFile& file,
    HttpClient& client,
    Shared& shared,
    PartialFile& partial,
    std::string& etag) {
  HttpRequest request;
  request.url = fmt::format(
      "{}/{}/resolve/{}/{}",
      shared.options.endpoint,
      shared.id,
      shared.commit,
      quote_path(file.path));
  request.from = partial.size();
  request.if_range = starts_with(etag, "W/") ? "" : etag;
  request.timeout = shared.options.download_timeout;
  BlobSink sink(file, shared, partial);
  Answer answer;
  try {
    answer = client.get(request, sink);
  } catch (const StartAgain& again) {
    partial.restart();
    answer.problem = again.why;
  }
  etag = sink.etag();
  return answer;
}

// Asks until all bytes are here.
void complete(
    const RemoteFile& file,
    HttpClient& client,
    Shared& shared,
    PartialFile& partial) {
  Retry retry(file.path, shared.options.attempts, shared.pause);
  std::string etag;
  while (partial.size() < file.size) {
    auto before = partial.size();
    auto answer = ask(file, client, shared, partial, etag);
    if (partial.size() == file.size) return;
    if (answer.status == 416) {
      partial.restart();
      answer.problem = "the hub refused to go on in the middle";
    } else if (is_refusal(answer)) {
      if (origin_of(answer.url) == origin_of(shared.options.endpoint))
        refuse(answer, file.path, shared.page(), shared.options);
      // A storage host's signature may have run out; the hub gives a new one.
      answer.problem =
          fmt::format("{} answered {}", origin_of(answer.url), answer.status);
    } else if (answer.problem.empty() && answer.status / 100 == 2) {
      answer.problem =
          fmt::format("expected {} bytes, found {}", file.size, partial.size());
    }
    auto now = partial.size();
    retry.after(answer, now > before ? now - before : 0);
  }
}

void fetch_locked(const RemoteFile& file, HttpClient& client, Shared& shared) {
  auto blob = shared.repository.blob(file.blob());
  PartialFile partial(shared.repository.incomplete(file.blob()), file, shared);
  for (int tries = 1;; ++tries) {
    complete(file, client, shared, partial);
    auto found = partial.hash();
    if (found == file.blob()) break;
    if (tries == 2) {
      partial.discard();
      fail(
          ErrorKind::io,
          file.path,
          "expected {} {}, found {}; what the hub sends is not the file it "
          "lists",
          file.sha256.empty() ? "git id" : "SHA-256",
          file.blob(),
          found);
    }
    partial.restart();
  }
  partial.keep_as(blob);
}

} // namespace

bool is_here(const RemoteFile& file, const Shared& shared) {
  return size_on_disk(shared.repository.file(shared.commit, file.path)) ==
      file.size;
}

void fetch_blob(const RemoteFile& file, HttpClient& client, Shared& shared) {
  FileLock lock(shared.repository.lock(file.blob()), [&] {
    shared.pause(0.1, "waiting for another process that fetches the same file");
  });
  if (is_here(file, shared)) { // another process or another name for the bytes
    shared.done += file.size;
    return;
  }
  bool present = size_on_disk(shared.repository.blob(file.blob())) == file.size;
  if (present)
    shared.done += file.size;
  else
    fetch_locked(file, client, shared);
  shared.repository.place(
      shared.commit, file, shared.options.symlinks, !present);
}

std::string damage(
    const fs::path& path,
    const RemoteFile& file,
    const std::function<void(std::size_t)>& read) {
  auto size = size_on_disk(path);
  if (!size) return "expected a file, found none";
  if (*size != file.size)
    return fmt::format("expected {} bytes, found {}", file.size, *size);
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fmt::format("cannot open: {}", std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() {
      ::close(fd);
    }
  } closer{fd};
  auto digest = digest_for(file.blob(), file.size);
  std::vector<std::byte> piece(read_piece);
  for (;;) {
    auto n = ::read(fd, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fmt::format("cannot read: {}", std::strerror(errno));
    if (n == 0) break;
    digest->update(std::span(piece).first(std::size_t(n)));
    read(std::size_t(n));
  }
  auto found = digest->finish();
  if (found == file.blob()) return "";
  return fmt::format("expected the hash {}, found {}", file.blob(), found);
}

} // namespace mlxlm::hub

// The Hugging Face hub's protocol: the commit of a revision, its listing, the
// files, the ref last, so that a name never leads to less than before.
#include <sys/statvfs.h>

#include <set>

#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"
#include "hub/address.h"
#include "hub/crew.h"
#include "hub/retry.h"
#include "hub/select.h"

namespace mlxlm::hub {
namespace {

constexpr std::size_t most_info_bytes = 32 << 20;
constexpr int most_pages = 1000;
constexpr std::uint64_t spare_bytes = 16 << 20;

class HubDownload {
 public:
  HubDownload(
      const HubOptions& options,
      const DownloadRequest& request,
      const HubId& id,
      const DownloadControl& control)
      : options_(options),
        request_(request),
        id_(id),
        repository_(options.cache, id),
        shared_{options_, repository_, id.id()},
        crew_(shared_, control),
        want_{request.variant, request.patterns, request.weights} {}

  std::string run() {
    crew_.run(1, [&](std::size_t, HttpClient& client) { find_files(client); });
    fetch(side_files(listing_, want_));
    fetch(weight_files(listing_, want_, index()));
    repository_.write_ref(request_.revision, shared_.commit);
    return repository_.snapshot(shared_.commit).string();
  }

 private:
  // ---- what there is
  // --------------------------------------------------------
  std::string get(HttpClient& client, const std::string& url, Answer& answer) {
    Retry retry(shared_.id, options_.attempts, shared_.pause);
    for (;;) {
      std::string body;
      HttpRequest request{.url = url, .timeout = options_.metadata_timeout};
      answer = client.get_text(request, most_info_bytes, body);
      if (answer.status == 200 && answer.problem.empty()) return body;
      if (is_refusal(answer))
        refuse(answer, id_.text(), shared_.page(), options_);
      retry.after(answer, 0);
    }
  }

  void find_files(HttpClient& client) {
    auto api = options_.endpoint + "/api/models/" + shared_.id;
    Answer answer;
    if (is_commit(request_.revision)) {
      shared_.commit = request_.revision;
    } else {
      auto url = api + "/revision/" + quote_path(request_.revision, false);
      shared_.commit = parse_model_info(get(client, url, answer));
    }
    auto known = repository_.tree(shared_.commit);
    if (known)
      listing_ = std::move(*known);
    else
      read_tree(
          client,
          api + "/tree/" + shared_.commit + "?recursive=true&expand=false");
    repository_.create();
    if (!known) repository_.write_tree(shared_.commit, listing_);
    announce();
  }

  void read_tree(HttpClient& client, std::string url) {
    auto home = origin_of(options_.endpoint);
    for (int page = 0; !url.empty(); ++page) {
      if (page == most_pages || origin_of(url) != home)
        fail(
            ErrorKind::io,
            shared_.id,
            "expected a listing of at most {} pages on {}, found another "
            "address",
            most_pages,
            home);
      Answer answer;
      add_tree_page(get(client, url, answer), listing_);
      url = next_page(answer.header("link"));
    }
    finish(listing_);
  }

  std::optional<std::string> index() const {
    auto path = repository_.file(shared_.commit, index_name).string();
    if (!is_file(path)) return std::nullopt;
    return read_file(path);
  }

  // ---- getting it
  // ------------------------------------------------------------ Totals for the
  // progress and the disk, before the index is here.
  void announce() {
    auto all = side_files(listing_, want_);
    auto weights = weight_files(listing_, want_, index());
    all.insert(all.end(), weights.begin(), weights.end());
    std::uint64_t bytes = 0;
    for (const auto& file : all)
      bytes += file.size;
    if (all.empty())
      fail(
          ErrorKind::request,
          id_.text(),
          "expected files that match {}, found none",
          request_.patterns.empty() ? "a model's"
                                    : join(request_.patterns, ", "));
    crew_.expect(bytes, int(all.size()));
    check_disk(all);
  }

  void check_disk(const Listing& files) const {
    std::uint64_t needed = 0;
    std::set<std::string> counted;
    for (const auto& file : files) {
      auto blob = size_on_disk(repository_.blob(file.blob()));
      if (blob == file.size || is_here(file, shared_) ||
          !counted.insert(file.blob()).second)
        continue;
      auto partial = size_on_disk(repository_.incomplete(file.blob()));
      needed += file.size - std::min(file.size, partial.value_or(0));
    }
    struct statvfs info {};
    auto folder = repository_.folder().string();
    if (needed == 0 || ::statvfs(folder.c_str(), &info) != 0) return;
    auto free = std::uint64_t(info.f_bavail) * info.f_frsize;
    if (needed + spare_bytes > free)
      fail(
          ErrorKind::resource,
          folder,
          "expected {} of free space for {}, found {}",
          human_bytes(needed + spare_bytes),
          id_.text(),
          human_bytes(free));
  }

  void fetch(const Listing& files) {
    crew_.run(files.size(), [&](std::size_t i, HttpClient& client) {
      auto& file = files[i];
      if (request_.check) drop_if_damaged(file);
      if (is_here(file, shared_))
        shared_.done += file.size;
      else
        fetch_blob(file, client, shared_);
      crew_.finished(1);
    });
  }

  void drop_if_damaged(const RemoteFile& file) {
    auto path = repository_.file(shared_.commit, file.path);
    auto blob = repository_.blob(file.blob());
    auto stop = [&](std::size_t) {
      if (shared_.stop)
        throw Interrupted(ErrorKind::io, "the check was interrupted");
    };
    auto& place = size_on_disk(path) ? path : blob;
    if (!size_on_disk(place) || damage(place, file, stop).empty()) return;
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    std::filesystem::remove(blob, ignored);
  }

  const HubOptions& options_;
  const DownloadRequest& request_;
  const HubId& id_;
  Repository repository_;
  Shared shared_;
  Crew crew_;
  Want want_;
  Listing listing_;
};

class HubDownloader final : public Downloader {
 public:
  explicit HubDownloader(HubOptions options) : options_(std::move(options)) {
    while (ends_with(options_.endpoint, "/"))
      options_.endpoint.pop_back();
  }

  std::string download(
      const DownloadRequest& request,
      const DownloadControl& control) override {
    auto id = parse_id(request.id + "@" + request.revision);
    if (!id || !id->variant.empty())
      fail(
          ErrorKind::request,
          "model",
          "expected a hub id org/name[@revision], found \"{}\"",
          printable(request.id + "@" + request.revision));
    id->variant = request.variant;
    if (options_.offline)
      fail(
          ErrorKind::request,
          id->text(),
          "expected it in {}, as HF_HUB_OFFLINE is set; found no complete copy",
          options_.cache);
    if (origin_of(options_.endpoint).empty())
      fail(
          ErrorKind::request,
          "HF_ENDPOINT",
          "expected an http(s) address, found \"{}\"",
          printable(options_.endpoint));
    return HubDownload(options_, request, *id, control).run();
  }

 private:
  HubOptions options_;
};

} // namespace
} // namespace mlxlm::hub

namespace mlxlm {

DownloaderPtr make_hub_downloader(HubOptions options) {
  return std::make_shared<hub::HubDownloader>(std::move(options));
}

} // namespace mlxlm

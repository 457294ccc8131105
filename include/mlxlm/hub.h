// Models by name: fetching them from a hub into the cache that Python's tools
// share, and looking after that cache.
//
//   auto folder = fetch("mlx-community/Qwen3-0.6B-4bit");
//   auto model = load(folder);
//
// `load` does the first step by itself. A hub id is
// "org/name[:variant][@revision]"; the variant chooses among the GGUF files of
// a repository by quantization ("Q4_K_M") or by file name.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mlxlm/error.h"

namespace mlxlm {

// ---- fetching --------------------------------------------------------------
struct DownloadProgress {
  std::size_t done = 0, total = 0; // bytes, those found here included
  int files_done = 0, files = 0;
  double bytes_per_second = 0; // over the last seconds
  double seconds_left = 0; // 0: not known
  std::string note; // "waiting for another process", "trying again: …"
};
struct DownloadControl {
  // Called about ten times a second by the thread that called `download`.
  std::function<void(const DownloadProgress&)> progress;
  // Asked as often; true ends the download with `Interrupted`. What has come
  // stays, and the next call goes on from there.
  std::function<bool()> cancelled;
};
class Interrupted : public Error {
 public:
  using Error::Error;
};

struct DownloadRequest {
  std::string id; // "org/name"
  std::string revision = "main"; // a branch, tag or commit
  std::string variant; // which GGUF file; empty: the usual choice
  // Globs of paths in the repository; empty: what running the model needs.
  std::vector<std::string> patterns;
  bool weights = true; // false: config and tokenizer only
  // Read every file that is here and fetch again what is damaged.
  bool check = false;
};

// "org/name[:variant][@revision]" in its parts. Throws Error(request).
DownloadRequest parse_hub_id(std::string_view reference);

// Where models come from. An application may bring its own: another hub, a
// bucket, a test. Called from one thread at a time.
class Downloader {
 public:
  virtual ~Downloader() = default;
  // Makes the files present and returns the folder that holds them. Throws
  // Error; nothing incomplete is ever seen under a file's final name.
  virtual std::string download(
      const DownloadRequest& request,
      const DownloadControl& control) = 0;
};
using DownloaderPtr = std::shared_ptr<Downloader>;

// The Hugging Face hub, or a mirror that speaks its protocol.
struct HubOptions {
  std::string cache; // folder of models--org--name folders
  std::string endpoint = "https://huggingface.co";
  // Sent to the endpoint only, over https or to this machine.
  std::string token;
  bool offline = false; // true: no socket is opened
  bool symlinks = true; // false: files instead of links to blobs
  double metadata_timeout = 10; // seconds without an answer
  double download_timeout = 10; // seconds without a byte
  int attempts = 5; // in a row without progress
  int parallel = 4; // files at a time
  std::string certificates; // file of trusted authorities; empty: the system's
};
// HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE
// and their kin.
HubOptions hub_options_from_environment();
DownloaderPtr make_hub_downloader(HubOptions options);

struct FetchOptions {
  DownloaderPtr downloader; // null: the hub of the environment
  DownloadControl control;
  bool weights = true;
};
// Where a reference leads: a folder or a .gguf file, fetched first when it is a
// hub id that is not completely here. What is here is used as it is, without
// asking the hub whether there is something newer. Throws Error(request) for
// what the hub does not know, Error(io), Error(resource) where the disk is too
// small, and Interrupted.
std::string fetch(std::string_view reference, const FetchOptions& options = {});

// ---- the cache -------------------------------------------------------------
struct LocalModel {
  std::string reference; // what to pass to load
  std::string path;
  std::size_t bytes = 0; // on disk
  bool complete = true; // false: a download was interrupted
};
// Short names that are installed and everything in the Hugging Face cache.
std::vector<LocalModel> local_models();

// Removes a model of the cache, or with "@revision" that revision and what only
// it uses. Returns the bytes freed. Throws Error(request) for what is not in
// the cache or is being downloaded.
std::size_t remove_model(std::string_view reference);

struct FileCheck {
  std::string file;
  std::size_t bytes = 0;
  std::string problem; // empty: the file is what its name promises
};
// Reads every file of a cached model and compares size and digest. Throws
// Error(request) for what is not in the cache, Interrupted.
std::vector<FileCheck> verify_model(
    std::string_view reference,
    const DownloadControl& control = {});

} // namespace mlxlm

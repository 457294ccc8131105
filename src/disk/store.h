// A folder of entries that outlives the process: put queues for a thread that
// writes, get reads and checks. Safe from any thread; several processes may
// share the folder.
//
//   DiskStore store({.folder = dir, .owner = fingerprint});
//   store.put(key, bytes);               // returns at once
//   if (auto found = store.get(key)) ... // now or after a restart
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "disk/entry_file.h"

namespace mlxlm::disk {

struct StoreOptions {
  std::string folder;
  std::string owner; // entries of other owners are not found
  std::uint64_t max_bytes = std::uint64_t{20} << 30; // of all owners' files
  std::size_t max_queue_bytes = std::size_t{256} << 20; // still to be written
  // How long nothing is written after the disk refused.
  std::chrono::milliseconds pause = std::chrono::seconds(60);
};

struct StoreFigures {
  std::uint64_t entries = 0, bytes = 0; // on the disk, once the queue is empty
  std::uint64_t hits = 0, misses = 0;
  std::uint64_t written = 0, evicted = 0;
  std::uint64_t dropped = 0; // not taken: queue full, too large, or writing
                             // has stopped
  std::uint64_t failures = 0; // times that the disk refused
  bool writing = true; // false: stopped for a while
};

class Store {
 public:
  using Bytes = std::vector<std::byte>;

  // Throws Error(io) when the folder cannot be made, and for nothing else.
  explicit Store(StoreOptions options);
  // Writes what is queued.
  ~Store();

  // False: not taken. True: it will be written unless the disk refuses, and is
  // found from now on. What is there already is only marked as used.
  bool put(const Key& key, Bytes payload);
  // The same, whatever is there under that key.
  bool replace(const Key& key, Bytes payload);
  // Nothing: not there, or not as it was put.
  std::optional<Bytes> get(const Key& key);
  // Whether get would look at a file or at the queue. No promise.
  bool has(const Key& key) const;
  // Waits until everything that was put has been written or given up.
  void flush();
  StoreFigures figures() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Task { // an entry to write, or one to note
    Key key;
    std::shared_ptr<const Bytes> payload; // null: used, or gone
    bool gone = false;
  };

  std::string name(const Key& key) const;
  bool queue(const Key& key, Bytes payload);
  void run();
  void work(class Index& index, const Task& task);
  bool make_room(class Index& index, std::uint64_t bytes);
  void refused();
  void note(const Key& key, bool gone);

  StoreOptions options_;
  EntryFolder folder_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> queue_;
  std::map<Key, std::shared_ptr<const Bytes>> pending_; // queued or on its way
  std::size_t pending_bytes_ = 0;
  Clock::time_point resumes_{}; // writing, after the disk refused
  StoreFigures figures_;
  bool busy_ = true; // until the index is there
  bool stopping_ = false;
  std::thread thread_; // last: starts when all else exists
};

} // namespace mlxlm::disk

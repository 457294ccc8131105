// Some threads that fetch while the calling thread reports progress and asks
// whether to stop.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>

#include "hub/blob_fetch.h"

namespace mlxlm::hub {

// Bytes a second over the last five seconds.
class Meter {
 public:
  double rate(std::uint64_t received);

 private:
  std::deque<std::pair<double, std::uint64_t>> marks_; // seconds, bytes
};

class Crew {
 public:
  Crew(Shared& shared, const DownloadControl& control);

  // Runs task(i, client) for i below `count`, `options.parallel` at a time.
  // Rethrows the first failure once all have stopped.
  void run(
      std::size_t count,
      const std::function<void(std::size_t, HttpClient&)>& task);
  // Sleeps in a task.
  void pause(double seconds, const std::string& why);
  // What the progress shows.
  void expect(std::uint64_t bytes, int files);
  void finished(int files);

 private:
  void work(
      std::size_t count,
      const std::function<void(std::size_t, HttpClient&)>& task);
  void report();

  Shared& shared_;
  const DownloadControl& control_;
  Meter meter_;
  std::mutex mutex_; // all below
  std::condition_variable changed_;
  std::size_t next_ = 0;
  int working_ = 0, files_ = 0, files_done_ = 0;
  std::uint64_t total_ = 0;
  std::string note_;
  std::exception_ptr failure_;
};

} // namespace mlxlm::hub

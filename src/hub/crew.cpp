#include "hub/crew.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

namespace mlxlm::hub {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

double now() {
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// A connection that the other side has closed raises SIGPIPE in some TLS
// libraries; it must not end the application. The mask is the thread's own.
void block_sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

} // namespace

double Meter::rate(std::uint64_t received) {
  auto time = now();
  marks_.emplace_back(time, received);
  while (marks_.size() > 2 && marks_.front().first < time - 5)
    marks_.pop_front();
  auto seconds = time - marks_.front().first;
  return seconds < 0.2 ? 0 : double(received - marks_.front().second) / seconds;
}

Crew::Crew(Shared& shared, const DownloadControl& control)
    : shared_(shared), control_(control) {
  shared.pause = [this](double seconds, const std::string& why) {
    pause(seconds, why);
  };
}

void Crew::expect(std::uint64_t bytes, int files) {
  std::lock_guard lock(mutex_);
  total_ = bytes;
  files_ = files;
}

void Crew::finished(int files) {
  std::lock_guard lock(mutex_);
  files_done_ += files;
}

void Crew::pause(double seconds, const std::string& why) {
  std::unique_lock lock(mutex_);
  note_ = why;
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] {
    return shared_.stop.load();
  });
  if (shared_.stop) throw_interrupted();
  note_.clear();
}

void Crew::work(
    std::size_t count,
    const std::function<void(std::size_t, HttpClient&)>& task) {
  block_sigpipe();
  try {
    HttpClient client(shared_.options, [this] { return shared_.stop.load(); });
    for (;;) {
      std::size_t mine;
      {
        std::lock_guard lock(mutex_);
        if (shared_.stop || next_ >= count) break;
        mine = next_++;
      }
      task(mine, client);
    }
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
    shared_.stop = true;
    changed_.notify_all();
  }
  std::lock_guard lock(mutex_);
  --working_;
  changed_.notify_all();
}

void Crew::report() {
  if (control_.progress) {
    DownloadProgress p;
    {
      std::lock_guard lock(mutex_);
      p.total = total_;
      p.files = files_;
      p.files_done = files_done_;
      p.note = note_;
    }
    p.done = std::min<std::uint64_t>(shared_.done, p.total);
    p.bytes_per_second = meter_.rate(shared_.received);
    if (p.bytes_per_second > 0)
      p.seconds_left = double(p.total - p.done) / p.bytes_per_second;
    control_.progress(p);
  }
  if (control_.cancelled && control_.cancelled()) {
    std::lock_guard lock(mutex_);
    shared_.stop = true;
    changed_.notify_all();
  }
}

void Crew::run(
    std::size_t count,
    const std::function<void(std::size_t, HttpClient&)>& task) {
  next_ = 0;
  working_ = int(std::min<std::size_t>(
      count, std::size_t(std::max(1, shared_.options.parallel))));
  std::vector<std::thread> threads;
  for (int i = working_; i > 0; --i)
    threads.emplace_back([&] { work(count, task); });
  std::exception_ptr own; // what the caller's functions threw
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, 100ms, [&] { return working_ == 0; })) break;
    }
    if (own) continue;
    try {
      report();
    } catch (...) {
      own = std::current_exception();
      std::lock_guard lock(mutex_);
      shared_.stop = true;
      changed_.notify_all();
    }
  }
  for (auto& thread : threads)
    thread.join();
  if (own) std::rethrow_exception(own);
  if (failure_) std::rethrow_exception(failure_);
  // Stopped before a task could notice.
  if (shared_.stop) throw_interrupted();
  report();
}

} // namespace mlxlm::hub

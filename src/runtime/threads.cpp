// The pool: one job at a time, items handed out by a counter that carries the
// job's generation, so that a worker that wakes late can never take an item of
// another job.
#include "runtime/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/processors.h"

namespace mlxlm {
namespace {

using Body = std::function<void(int)>;
using Clock = std::chrono::steady_clock;

constexpr auto spin_time = std::chrono::microseconds(80);

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// What read_ahead() was given, as far as it has not been fetched. Fields may
// be seen half changed: a prefetch of any address is harmless.
class Ahead {
 public:
  void set(const std::vector<MemoryRange>& ranges) {
    auto count = std::min(ranges.size(), most_ranges);
    auto each = count ? most_bytes / count : 0;
    for (std::size_t i = 0; i < count; i++) {
      first_[i].store(static_cast<const char*>(ranges[i].data));
      blocks_[i].store(std::min(ranges[i].bytes, each) / block);
    }
    count_.store(count);
    next_.store(0);
  }

  // Fetches a little; false when nothing is left.
  bool fetch() {
    auto count = count_.load(std::memory_order_relaxed);
    if (next_.load(std::memory_order_relaxed) >= most_bytes / block) {
      return false;
    }
    auto at = next_.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < count; i++) {
      if (at < blocks_[i].load(std::memory_order_relaxed)) {
        const char* data =
            first_[i].load(std::memory_order_relaxed) + at * block;
        for (std::size_t line = 0; line < block; line += 64) {
          __builtin_prefetch(data + line, 0, 2);
        }
      }
    }
    return count != 0;
  }

 private:
  static constexpr std::size_t block = 1024;
  static constexpr std::size_t most_bytes = std::size_t{384} << 10;
  static constexpr std::size_t most_ranges = 4;

  alignas(64) std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> count_{0};
  std::atomic<const char*> first_[most_ranges] = {};
  std::atomic<std::size_t> blocks_[most_ranges] = {};
};

Ahead& ahead() {
  static Ahead ahead;
  return ahead;
}

// Spins until `ready()`; false when that took longer than `spin_time`.
template <typename Ready>
bool spin_until(const Ready& ready) {
  auto some = [&] {
    for (int i = 0; i < 64; i++) {
      if (ready()) {
        return true;
      }
      if (!ahead().fetch()) {
        pause();
      }
    }
    return false;
  };
  if (some()) {
    return true;
  }
  auto end = Clock::now() + spin_time;
  do {
    if (some()) {
      return true;
    }
  } while (Clock::now() < end);
  return false;
}

thread_local bool inside = false;

class Pool {
 public:
  ~Pool() {
    stop();
  }

  int threads() const {
    return threads_.load();
  }

  void resize(int threads) {
    std::lock_guard lock(callers_);
    stop();
    threads_.store(std::max(1, threads));
  }

  void run(int count, const Body& body) {
    if (threads() == 1) {
      run_inline(count, body);
      return;
    }
    std::lock_guard lock(callers_);
    start();
    body_.store(&body, std::memory_order_relaxed);
    count_.store(count, std::memory_order_relaxed);
    pending_.store(count, std::memory_order_relaxed);
    auto generation = (left_.load(std::memory_order_relaxed) >> 32) + 1;
    left_.store(generation << 32 | static_cast<std::uint32_t>(count));
    if (sleepers_.load() > 0) {
      std::lock_guard sleep(sleep_);
      wake_.notify_all();
    }
    inside = true;
    work(generation);
    inside = false;
    auto finished = [&] {
      return pending_.load(std::memory_order_acquire) == 0;
    };
    while (!spin_until(finished)) {
      std::this_thread::yield();
    }
  }

  static void run_inline(int count, const Body& body) {
    for (int i = 0; i < count; i++) {
      body(i);
    }
  }

 private:
  // Takes items of this generation until none are left. `body_` and `count_`
  // belong to the generation whenever the exchange succeeds: they change only
  // when it is over.
  void work(std::uint64_t generation) {
    int finished = 0;
    auto left = left_.load(std::memory_order_acquire);
    while (left >> 32 == (generation & 0xffffffff) &&
           (left & 0xffffffff) != 0) {
      auto* body = body_.load(std::memory_order_relaxed);
      int count = count_.load(std::memory_order_relaxed);
      if (left_.compare_exchange_weak(
              left,
              left - 1,
              std::memory_order_acq_rel,
              std::memory_order_acquire)) {
        (*body)(count - static_cast<int>(left & 0xffffffff));
        finished++;
        left = left_.load(std::memory_order_acquire);
      }
    }
    if (finished != 0) {
      pending_.fetch_sub(finished, std::memory_order_acq_rel);
    }
  }

  void worker(std::uint64_t seen) {
    inside = true;
    auto changed = [&] {
      return left_.load(std::memory_order_acquire) >> 32 != seen ||
          stopping_.load(std::memory_order_acquire);
    };
    while (true) {
      if (!spin_until(changed)) {
        std::unique_lock lock(sleep_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, [&] {
          return left_.load() >> 32 != seen || stopping_.load();
        });
        sleepers_.fetch_sub(1);
      }
      if (stopping_.load()) {
        return;
      }
      seen = left_.load(std::memory_order_acquire) >> 32;
      work(seen);
    }
  }

  void start() {
    auto seen = left_.load() >> 32;
    while (static_cast<int>(workers_.size()) < threads_ - 1) {
      workers_.emplace_back([this, seen] { worker(seen); });
    }
  }

  void stop() {
    {
      std::lock_guard lock(sleep_);
      stopping_.store(true);
      wake_.notify_all();
    }
    for (auto& worker : workers_) {
      worker.join();
    }
    workers_.clear();
    stopping_.store(false);
  }

  std::mutex callers_; // one job at a time
  std::atomic<int> threads_{usable_processors()};
  std::vector<std::thread> workers_;
  std::atomic<const Body*> body_{nullptr};
  std::atomic<int> count_{0};
  alignas(64) std::atomic<std::uint64_t> left_{
      0}; // generation << 32 | items left
  alignas(64) std::atomic<int> pending_{0}; // items not finished
  std::mutex sleep_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
};

Pool& pool() {
  static Pool pool;
  return pool;
}

} // namespace

int thread_count() {
  return pool().threads();
}

void set_thread_count(int threads) {
  pool().resize(threads);
}

void read_ahead(const std::vector<MemoryRange>& ranges) {
  ahead().set(ranges);
}

void parallel_for(int count, const std::function<void(int)>& body) {
  if (count <= 1 || inside) {
    Pool::run_inline(count, body);
    return;
  }
  pool().run(count, body);
}

} // namespace mlxlm

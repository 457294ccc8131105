// How far building runs ahead of computing. MLX allocates a result when it
// hands out the work for it, not when the work begins: a prompt's pass is
// handed out faster than it is computed, and the results of many layers would
// hold memory at once. Past some of it the thread that hands out waits. (MLX
// has a limit of its own for that, mx::set_memory_limit, but the wait for its
// last task spins and takes a processor from the kernels.)
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>

namespace mlxlm::kernels {

// The calls of one thread that are handed out and not yet done. The calls
// themselves run on another thread.
class InFlight {
 public:
  // Of this thread.
  static const std::shared_ptr<InFlight>& here();

  // One more call. `active`: bytes of all arrays now.
  void begin(std::size_t active);
  void end();

  // Waits while more than `most` bytes were allocated since nothing was in
  // flight and more than two calls are: one runs, one is ready behind it.
  template <typename Active>
  void wait(Active active, std::size_t most) {
    std::unique_lock lock(mutex_);
    while (calls_ > 2 && active() > rest_ + most)
      done_.wait(lock);
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  int calls_ = 0;
  std::size_t rest_ = 0; // bytes when nothing was in flight
};

} // namespace mlxlm::kernels

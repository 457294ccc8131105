#include "runtime/kernels/in_flight.h"

namespace mlxlm::kernels {

const std::shared_ptr<InFlight>& InFlight::here() {
  static thread_local const auto here = std::make_shared<InFlight>();
  return here;
}

void InFlight::begin(std::size_t active) {
  std::lock_guard lock(mutex_);
  if (calls_++ == 0) rest_ = active;
}

void InFlight::end() {
  // Under the lock: whoever waits may be the last to hold this.
  std::lock_guard lock(mutex_);
  --calls_;
  done_.notify_one();
}

} // namespace mlxlm::kernels

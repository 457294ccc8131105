// The process's wired memory and the array engine's limits.
#include <mlx/memory.h>

#include "mlxlm/wired_memory.h"
#include "runtime/memory/device.h"
#include "runtime/memory/results.h"

namespace mx = mlx::core;

namespace mlxlm {

WiredMemoryPtr wired_memory() {
  // The wired limit is the process's, and so is what drives it.
  static const WiredMemoryPtr shared =
      make_wired_memory(device_wired_backend());
  return shared;
}

ArrayMemory array_memory() {
  return {
      kernels::live_arrays(),
      mx::get_peak_memory(),
      mx::get_cache_memory() + kernels::results().unused(),
      mx::get_memory_limit()};
}

void reset_peak_memory() {
  mx::reset_peak_memory();
}

std::size_t set_memory_limit(std::size_t bytes) {
  return mx::set_memory_limit(bytes);
}

std::size_t set_cache_limit(std::size_t bytes) {
  return mx::set_cache_limit(bytes);
}

void clear_cache() {
  kernels::results().release();
  mx::clear_cache();
}

} // namespace mlxlm

#include "runtime/memory/device.h"

#include <mlx/backend/metal/metal.h>
#include <mlx/device.h>
#include <mlx/memory.h>

#include <exception>
#include <variant>

#include "runtime/memory/results.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mx = mlx::core;

namespace mlxlm {
namespace {

class DeviceBackend final : public WiredBackend {
 public:
  bool supported() const override {
    return mx::metal::is_available() && mx::default_device() == mx::Device::gpu;
  }
  std::optional<std::int64_t> recommended_working_set() const override {
    if (!mx::metal::is_available()) return std::nullopt;
    auto bytes = device_number("max_recommended_working_set_size");
    if (bytes == 0) return std::nullopt;
    return static_cast<std::int64_t>(bytes);
  }
  bool apply(std::int64_t limit) override {
    try {
      mx::set_wired_limit(static_cast<std::size_t>(limit));
      return true;
    } catch (const std::exception&) {
      return false; // beyond the system's own limit: reported as an event
    }
  }
};

} // namespace

std::size_t device_number(const char* key) {
  const auto& about = mx::device_info();
  auto found = about.find(key);
  if (found == about.end()) return 0;
  const auto* value = std::get_if<std::size_t>(&found->second);
  return value ? *value : 0;
}

void release_memory() {
  kernels::results().release();
  mx::clear_cache();
#ifdef __GLIBC__
  malloc_trim(0); // else what was freed between two things stays
#endif
}

std::shared_ptr<WiredBackend> device_wired_backend() {
  return std::make_shared<DeviceBackend>();
}

} // namespace mlxlm

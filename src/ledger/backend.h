// What the manager needs of a device.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "mlxlm/wired_memory.h"

namespace mlxlm {

class WiredBackend {
 public:
  virtual ~WiredBackend() = default;
  // Whether there is a wired limit to set.
  virtual bool supported() const = 0;
  // Bytes; nothing where the device recommends none.
  virtual std::optional<std::int64_t> recommended_working_set() const = 0;
  // False: the device refused.
  virtual bool apply(std::int64_t limit) = 0;
  virtual std::chrono::steady_clock::time_point now() const {
    return std::chrono::steady_clock::now();
  }
};

WiredMemoryPtr make_wired_memory(
    std::shared_ptr<WiredBackend> backend,
    const WiredSettings& settings = {});

} // namespace mlxlm

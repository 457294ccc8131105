#include "serve/stamps.h"

#include <fmt/format.h>

#include <chrono>
#include <random>

namespace mlxlm::serve {

std::string random_id() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", random(), random());
}

std::int64_t unix_time() {
  return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
}

} // namespace mlxlm::serve

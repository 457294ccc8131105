#include "runtime/kernels/linear/target.h"

#include <atomic>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::kernels {
namespace {

constexpr const Target* targets[] = {
#if defined(__x86_64__)
    &avx512_vnni_target,
    &avx512_target,
    &avx2_target,
#elif defined(__aarch64__)
    &neon_i8mm_target,
    &neon_dot_target,
    &neon_target,
#endif
    &portable_target,
};

const Target* best() {
  for (auto* candidate : targets) {
    if (candidate->supported()) {
      return candidate;
    }
  }
  return &portable_target;
}

std::atomic<const Target*>& current() {
  static std::atomic<const Target*> current{best()};
  return current;
}

} // namespace

const Target& target() {
  return *current().load(std::memory_order_relaxed);
}

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (auto* candidate : targets) {
    if (candidate->supported()) {
      names.emplace_back(candidate->name);
    }
  }
  return names;
}

void set_target(std::string_view name) {
  for (auto* candidate : targets) {
    if (candidate->name == name && candidate->supported()) {
      current().store(candidate);
      return;
    }
  }
  fail(
      ErrorKind::config,
      "kernel target",
      "expected one of {}, found {}",
      mlxlm::join(target_names(), ", "),
      printable(name));
}

} // namespace mlxlm::kernels

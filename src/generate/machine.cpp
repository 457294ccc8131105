#include "generate/machine.h"

#include <mlx/device.h>
#include <mlx/memory.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

#include "runtime/memory/device.h"

#ifdef __APPLE__
#include <mach/mach.h>
#endif

namespace mlxlm {

namespace mx = mlx::core;

namespace {

constexpr auto no_limit = std::numeric_limits<std::size_t>::max();

// The number after `key` in a file of "key number" lines.
std::size_t number_after(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    std::istringstream rest(line.substr(key.size()));
    std::size_t value = 0;
    rest >> value;
    return value;
  }
  return 0;
}

std::size_t kilobytes(const std::string& path, const std::string& key) {
  return number_after(path, key) * 1024;
}

std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream in(path);
  std::size_t value = 0;
  if (in >> value) return value;
  return std::nullopt; // no such file, or "max"
}

// What a control group leaves; its cached files can be given up.
std::size_t left_in(const std::string& folder) {
  bool v2 = true;
  auto limit = number_in(folder + "/memory.max");
  if (!limit) {
    v2 = false;
    limit = number_in(folder + "/memory.limit_in_bytes");
  }
  if (!limit) return no_limit;
  const char* usage = v2 ? "/memory.current" : "/memory.usage_in_bytes";
  auto used = number_in(folder + usage).value_or(0);
  const std::string total = v2 ? "" : "total_";
  auto stat = folder + "/memory.stat";
  auto cached = number_after(stat, total + "inactive_file ") +
      number_after(stat, total + "active_file ");
  used -= std::min(used, cached);
  return *limit - std::min(*limit, used);
}

std::size_t left_in_address_space(const SystemFolders& system) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return no_limit;
  auto used = kilobytes(system.proc + "/self/status", "VmSize:");
  auto most = static_cast<std::size_t>(limit.rlim_cur);
  return most - std::min(most, used);
}

std::size_t free_on_machine(const SystemFolders& system) {
#ifdef __APPLE__
  vm_statistics64_data_t pages{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  auto* out = reinterpret_cast<host_info64_t>(&pages);
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64, out, &count) ==
      KERN_SUCCESS)
    return (std::size_t{pages.free_count} + pages.inactive_count +
            pages.purgeable_count) *
        static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
#endif
  auto free = kilobytes(system.proc + "/meminfo", "MemAvailable:");
  if (free > 0) return free;
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
      static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

} // namespace

std::size_t available_memory(const SystemFolders& system) {
  auto free = std::min(free_on_machine(system), left_in_address_space(system));
  for (const auto& folder : control_groups("memory", system))
    free = std::min(free, left_in(folder));
  return free;
}

std::size_t free_device_memory() {
  if (mx::default_device() == mx::Device::cpu) return available_memory();
  auto total = device_number("max_recommended_working_set_size"); // Metal
  if (total == 0) total = device_number("total_memory");
  if (total == 0) total = device_number("memory_size");
  if (total == 0) return available_memory();
  return total - std::min(total, mx::get_active_memory());
}

std::size_t sequence_budget(std::size_t available) {
  return available - available / 10;
}

std::size_t resident_memory() {
  return kilobytes("/proc/self/status", "VmRSS:");
}

std::size_t peak_resident_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto peak = static_cast<std::size_t>(usage.ru_maxrss);
#ifdef __APPLE__
  return peak;
#else
  return peak * 1024;
#endif
}

} // namespace mlxlm

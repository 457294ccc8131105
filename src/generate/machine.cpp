#include "generate/machine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace mlxlm {
namespace {

// The number after `key` in a file of "Key:  number kB" lines, in bytes.
std::size_t kilobytes(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    std::istringstream rest(line.substr(key.size()));
    std::size_t value = 0;
    rest >> value;
    return value * 1024;
  }
  return 0;
}

std::size_t number_in(const char* path) {
  std::ifstream in(path);
  std::size_t value = 0; // "max" leaves it 0
  in >> value;
  return in ? value : 0;
}

} // namespace

std::size_t available_memory() {
  auto free = kilobytes("/proc/meminfo", "MemAvailable:");
  if (free == 0)
    free = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
        static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  auto limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit == 0) return free;
  auto used = number_in("/sys/fs/cgroup/memory.current");
  return std::min(free, limit - std::min(limit, used));
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

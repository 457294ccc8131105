// Affinity mask, core topology and cgroup quota (v1 and v2) on Linux; sysctl on
// macOS.
#include "runtime/processors.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "core/control_groups.h"

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace mlxlm {
namespace {

#if defined(__linux__)

long read_number(const std::string& path, long fallback) {
  std::ifstream file(path);
  long value = 0;
  return file >> value ? value : fallback;
}

// Distinct (package, core) pairs among the processors of the affinity mask.
int affine_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return 0;
  }
  std::set<std::pair<long, long>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set)) {
      auto topology =
          "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      cores.emplace(
          read_number(topology + "physical_package_id", -1),
          read_number(topology + "core_id", cpu));
    }
  }
  return static_cast<int>(cores.size());
}

double quota_of(const std::string& folder) {
  std::ifstream v2(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period) {
    return quota == "max" || period <= 0 ? HUGE_VAL : std::stod(quota) / period;
  }
  auto v1 = read_number(folder + "/cpu.cfs_quota_us", -1);
  auto v1_period = read_number(folder + "/cpu.cfs_period_us", 0);
  return v1 <= 0 || v1_period <= 0
      ? HUGE_VAL
      : static_cast<double>(v1) / static_cast<double>(v1_period);
}

// The tightest quota of all groups this process is in.
double cgroup_quota() {
  double quota = HUGE_VAL;
  for (const auto& folder : control_groups("cpu"))
    quota = std::min(quota, quota_of(folder));
  return quota;
}

int physical_cores() {
  auto cores = affine_cores();
  auto quota = cgroup_quota();
  if (quota < cores) {
    cores = std::max(1, static_cast<int>(std::lround(quota)));
  }
  return cores;
}

#elif defined(__APPLE__)

int physical_cores() {
  int value = 0;
  std::size_t size = sizeof(value);
  for (const char* name : {"hw.perflevel0.physicalcpu", "hw.physicalcpu"}) {
    if (sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value > 0) {
      return value;
    }
  }
  return 0;
}

#else

int physical_cores() {
  return 0;
}

#endif

} // namespace

int usable_processors() {
  auto cores = physical_cores();
  if (cores > 0) {
    return cores;
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

} // namespace mlxlm

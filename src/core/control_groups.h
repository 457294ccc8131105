// Which of Linux's control groups (v1 and v2) this process is in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

// Where the system's own files are; tests bring their own.
struct SystemFolders {
  std::string proc = "/proc";
  std::string cgroups = "/sys/fs/cgroup";
};

// The folders that hold a controller's ("cpu", "memory") files for this
// process, each group before the group around it: every one of them limits.
// Empty where there are none.
std::vector<std::string> control_groups(
    std::string_view controller,
    const SystemFolders& system = {});

} // namespace mlxlm

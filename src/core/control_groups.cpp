#include "core/control_groups.h"

#include <fstream>
#include <sstream>

namespace mlxlm {
namespace {

// Whether `name` is one of "a,b,c".
bool lists(const std::string& names, std::string_view name) {
  std::istringstream in(names);
  for (std::string one; std::getline(in, one, ',');)
    if (one == name) return true;
  return false;
}

} // namespace

std::vector<std::string> control_groups(
    std::string_view controller,
    const SystemFolders& system) {
  std::vector<std::string> folders;
  std::ifstream groups(system.proc + "/self/cgroup");
  // id:controllers:path; version 2 names no controllers.
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string id, controllers, path;
    std::getline(fields, id, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, path);
    if (!controllers.empty() && !lists(controllers, controller)) continue;
    auto root = system.cgroups;
    if (!controllers.empty()) root.append("/").append(controllers);
    while (true) {
      folders.push_back(root + path);
      auto slash = path.rfind('/');
      if (slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  return folders;
}

} // namespace mlxlm

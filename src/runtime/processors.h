// How many processors this process may use.
#pragma once

namespace mlxlm {

// Physical cores within the affinity mask, at most the cgroup's quota; at
// least 1.
int usable_processors();

} // namespace mlxlm

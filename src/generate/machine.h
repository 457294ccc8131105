// Memory of this machine and this process, in bytes; 0 where it cannot be told.
#pragma once

#include <cstddef>

namespace mlxlm {

std::size_t available_memory(); // what could still be allocated, cgroup
                                // respected
std::size_t resident_memory();
std::size_t peak_resident_memory();

} // namespace mlxlm

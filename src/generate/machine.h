// Memory of this machine and this process, in bytes; 0 where it cannot be told.
#pragma once

#include <cstddef>

#include "core/control_groups.h"

namespace mlxlm {

// What this process could still allocate: what the machine has free, at most
// what its control groups and its own address space limit leave. Cached files
// count as free.
std::size_t available_memory(const SystemFolders& system = {});
// What the device of models and sequences still has.
std::size_t free_device_memory();
// How much of that sequences may take: a tenth is left to activations and to
// everything else that runs.
std::size_t sequence_budget(std::size_t available);
std::size_t resident_memory();
std::size_t peak_resident_memory();

} // namespace mlxlm

// What the device of the arrays says of its memory, and the wired limit of
// Metal behind the ledger's interface.
#pragma once

#include <cstddef>
#include <memory>

#include "ledger/backend.h"

namespace mlxlm {

// A number of MLX's device table ("memory_size", "total_memory"); 0: none.
std::size_t device_number(const char* key);

// Gives what nothing is in any more back to the system.
void release_memory();

// Sets the wired limit where the default device is Metal; elsewhere there is
// none.
std::shared_ptr<WiredBackend> device_wired_backend();

} // namespace mlxlm

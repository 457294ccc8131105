// Memory for weights in huge pages where the system has them: a pass over
// weights touches each page once, so that small pages cost a walk of the page
// table every 4 KB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace mlxlm::kernels {

// `bytes` of memory, aligned to 64 bytes. Small blocks share regions; a region
// goes when all its blocks have gone. Throws std::bad_alloc.
std::shared_ptr<std::uint8_t> allocate_weights(std::size_t bytes);

} // namespace mlxlm::kernels

// The one choice of storage by device.
#include "cache/store.h"

#include "cache/array_store.h"
#include "cache/paged_store.h"
#include "runtime/kernels/primitive.h"

namespace mlxlm::cache {

bool raw_pages(const MemoryOptions& options) {
  return kernels::on_cpu() && !options.arrays &&
      kernels::float_type(options.dtype);
}

std::unique_ptr<KvStore> make_store(
    const Group& group,
    const StoreOptions& options) {
  if (options.raw) return std::make_unique<PagedStore>(group, options);
  return std::make_unique<ArrayStore>(group, options);
}

} // namespace mlxlm::cache

// The one choice of storage by device.
#include "cache/store.h"

#include "cache/array_store.h"

namespace mlxlm::cache {

bool raw_pages() {
  return false;
}

std::unique_ptr<KvStore> make_store(
    const Group& group,
    const StoreOptions& options) {
  return std::make_unique<ArrayStore>(group, options);
}

} // namespace mlxlm::cache

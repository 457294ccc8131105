#include "runtime/kernels/linear/huge_pages.h"

#include <sys/mman.h>

#include <mutex>
#include <new>

namespace mlxlm::kernels {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t region_bytes = std::size_t{32}
    << 20; // untouched parts are free
constexpr std::size_t small = region_bytes / 4;

// A mapping that begins at a multiple of the huge page.
class Region {
 public:
  explicit Region(std::size_t bytes) : size_(bytes + huge_page) {
    base_ = mmap(
        nullptr,
        size_,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0);
    if (base_ == MAP_FAILED) {
      throw std::bad_alloc();
    }
    auto address = reinterpret_cast<std::uintptr_t>(base_);
    auto skip = (huge_page - address % huge_page) % huge_page;
    data_ = static_cast<std::uint8_t*>(base_) + skip;
#if defined(MADV_HUGEPAGE)
    madvise(data_, bytes, MADV_HUGEPAGE); // a wish: small pages do as well
#endif
  }
  ~Region() {
    munmap(base_, size_);
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  std::uint8_t* data() const {
    return data_;
  }

 private:
  void* base_;
  std::size_t size_;
  std::uint8_t* data_;
};

} // namespace

std::shared_ptr<std::uint8_t> allocate_weights(std::size_t bytes) {
  static std::mutex mutex;
  static std::weak_ptr<Region> shared;
  static std::size_t used = 0;
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > small) {
    auto region = std::make_shared<Region>(bytes);
    return {region, region->data()};
  }
  std::lock_guard lock(mutex);
  auto region = shared.lock();
  if (!region || used + bytes > region_bytes) {
    region = std::make_shared<Region>(region_bytes);
    shared = region;
    used = 0;
  }
  auto* data = region->data() + used;
  used += bytes;
  return {region, data};
}

} // namespace mlxlm::kernels

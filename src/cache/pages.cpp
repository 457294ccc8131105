// Page pool and page tables; see pages.h.
#include "cache/pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "core/check.h"
#include "runtime/kernels/attention/page_layout.h"

namespace mlxlm::cache {

namespace {

constexpr std::size_t huge_page = std::size_t(2) << 20;
constexpr std::size_t slab_bytes = 4 * huge_page;
constexpr std::size_t most_slab_pages = 64;
constexpr std::size_t slack = kernels::PageLayout::slack;

// Memory that the system backs with huge pages if it can: attention walks it in
// strides that would miss a small page's translation again and again.
std::byte* allocate_slab(std::size_t bytes) {
  auto align = bytes >= huge_page ? huge_page : std::size_t(64);
  auto* p = operator new(bytes, std::align_val_t{align}, std::nothrow);
  if (!p) {
    fail(
        ErrorKind::resource,
        "kv memory",
        "expected {} bytes more, found no memory",
        bytes);
  }
#ifdef MADV_HUGEPAGE
  // Advice only: refused, pages are small.
  if (bytes >= huge_page) madvise(p, bytes, MADV_HUGEPAGE);
#endif
  return static_cast<std::byte*>(p);
}

void free_slab(std::byte* p, std::size_t bytes) {
  auto align = bytes >= huge_page ? huge_page : std::size_t(64);
  operator delete(p, std::align_val_t{align});
}

// Pages start on cache lines.
std::size_t stride_of(std::size_t page_bytes) {
  return (page_bytes + 63) / 64 * 64;
}

} // namespace

PagePool::PagePool(std::size_t page_bytes, bool raw, bool packed)
    : page_bytes_(page_bytes), raw_(raw), packed_(packed) {}

PagePool::~PagePool() {
  release_spares();
  for (auto* page : spares_)
    delete page;
}

// Adds a slab of spare pages; the mutex is held.
void PagePool::grow() {
  if (!raw_) {
    spares_.push_back(new Page{next_id_++, -1, nullptr, 1, packed_});
    return;
  }
  auto stride = stride_of(page_bytes_);
  int pages =
      int(std::clamp<std::size_t>(slab_bytes / stride, 1, most_slab_pages));
  auto* memory = allocate_slab(pages * stride + slack);
  // A place of a released slab, or a new one.
  std::size_t slab = 0;
  while (slab < slabs_.size() && slabs_[slab].memory)
    ++slab;
  if (slab == slabs_.size()) slabs_.push_back({});
  slabs_[slab] = {memory, pages, pages};
  for (int i = pages - 1; i >= 0; --i) { // the first is taken first
    spares_.push_back(
        new Page{next_id_++, int(slab), memory + i * stride, 1, packed_});
  }
}

PagePtr PagePool::take() {
  Page* page = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (spares_.empty()) grow();
    page = spares_.back();
    spares_.pop_back();
    ++live_;
    if (raw_) --slabs_[page->slab].spare;
  }
  // What nobody writes of a packed page is read as nothing: the center of its
  // keys follows all rows before (a file may hold only a window's).
  if (raw_ && packed_) std::memset(page->data, 0, page_bytes_);
  page->owners = 1;
  ++owned_;
  return PagePtr(
      page, [pool = shared_from_this()](Page* p) { pool->recycle(p); });
}

void PagePool::drop(Page& page) {
  if (--page.owners == 0) --owned_;
}

void PagePool::recycle(Page* page) {
  std::lock_guard lock(mutex_);
  spares_.push_back(page);
  --live_;
  if (raw_) ++slabs_[page->slab].spare;
}

int PagePool::live() const {
  std::lock_guard lock(mutex_);
  return live_;
}

void PagePool::release_spares() {
  std::lock_guard lock(mutex_);
  if (!raw_) return;
  auto whole = [&](const Page* page) {
    auto& slab = slabs_[page->slab];
    return slab.spare == slab.pages;
  };
  auto gone = std::stable_partition(
      spares_.begin(), spares_.end(), [&](auto* page) { return !whole(page); });
  std::for_each(gone, spares_.end(), [](auto* page) { delete page; });
  spares_.erase(gone, spares_.end());
  auto stride = stride_of(page_bytes_);
  for (auto& slab : slabs_) {
    if (!slab.memory || slab.spare < slab.pages) continue;
    free_slab(slab.memory, slab.pages * stride + slack);
    slab = {};
  }
}

PageList::PageList(std::vector<PagePtr> list) : pages(std::move(list)) {
  for (auto& page : pages) {
    data.push_back(page ? page->data : nullptr);
    packed.push_back(page && page->packed);
  }
}

PageTable::PageTable(PageSource source)
    : source_(std::move(source)),
      pages_(std::make_shared<const PageList>(std::vector<PagePtr>{})) {}

PageTable::~PageTable() {
  if (!pages_) return; // moved from
  for (auto& page : list()) {
    if (page) drop(*page);
  }
}

void PageTable::publish(std::vector<PagePtr> pages) {
  pages_ = std::make_shared<const PageList>(std::move(pages));
}

bool PageTable::shared_tail(int length) const {
  return length % source_.page_tokens != 0 &&
      list()[length / source_.page_tokens]->owners > 1;
}

std::size_t PageTable::missing(int length, int tokens) const {
  if (tokens == 0) return 0;
  std::size_t bytes = 0;
  for (int i = int(list().size()); i < pages_for(length + tokens); ++i)
    bytes += pool_for(i).page_bytes();
  if (shared_tail(length))
    bytes += pool_for(length / source_.page_tokens).page_bytes();
  return bytes;
}

// All or none.
std::vector<PagePtr> PageTable::take(
    const std::vector<PagePool*>& pools) const {
  std::vector<PagePtr> fresh;
  for (auto* pool : pools) {
    try {
      fresh.push_back(pool->take());
    } catch (...) {
      for (auto& page : fresh)
        drop(*page);
      throw;
    }
  }
  return fresh;
}

std::vector<PageTable::Copy> PageTable::reserve(int length, int tokens) {
  std::vector<Copy> copies;
  if (missing(length, tokens) == 0) return copies;
  auto next = list();
  std::vector<PagePool*> pools; // all taken before anything changes
  for (int i = int(next.size()); i < pages_for(length + tokens); ++i)
    pools.push_back(&pool_for(i));
  int last = length / source_.page_tokens;
  bool copy = shared_tail(length);
  if (copy) {
    auto packed = next[last]->packed;
    pools.push_back(packed ? source_.packed.get() : source_.plain.get());
  }
  auto fresh = take(pools);
  if (copy) {
    auto& tail = next[last];
    copies.push_back({tail, fresh.back(), last});
    drop(*tail);
    tail = fresh.back();
    fresh.pop_back();
  }
  next.insert(next.end(), fresh.begin(), fresh.end());
  publish(std::move(next));
  return copies;
}

void PageTable::shorten(int length) {
  auto keep = std::size_t(pages_for(length));
  if (keep >= list().size()) return;
  auto next = list();
  for (auto i = keep; i < next.size(); ++i) {
    if (next[i]) drop(*next[i]);
  }
  next.resize(keep);
  dropped_ = std::min(dropped_, int(keep));
  publish(std::move(next));
}

void PageTable::slide(int length) {
  if (source_.window == 0) return;
  int passed = (length - source_.window + 1) / source_.page_tokens - 1;
  passed = std::min(passed, int(list().size()));
  int first = std::max(dropped_, kept_pages());
  if (passed <= first) return;
  auto next = list();
  for (int i = first; i < passed; ++i) {
    drop(*next[i]);
    next[i] = nullptr;
  }
  dropped_ = passed;
  publish(std::move(next));
}

bool PageTable::reaches(int length) const {
  if (length == 0 || dropped_ <= kept_pages()) return true;
  // A new page goes on from the one before, even if nobody sees that.
  int behind = std::max(source_.window - 1, 1);
  int oldest = std::max(0, length - behind);
  return dropped_ * source_.page_tokens <= oldest;
}

PageTable PageTable::fork() const {
  PageTable copy(source_);
  copy.packing_ = packing_;
  copy.pages_ = pages_;
  copy.dropped_ = dropped_;
  for (auto& page : list()) {
    if (page) ++page->owners;
  }
  return copy;
}

std::size_t PageTable::packing_bytes() const {
  std::size_t bytes = 0;
  if (!source_.packed) return bytes;
  for (int i = source_.plain_pages; i < int(list().size()); ++i) {
    if (list()[i] && !list()[i]->packed) bytes += source_.packed->page_bytes();
  }
  return bytes;
}

std::vector<PageTable::Copy> PageTable::pack() {
  if (!source_.packed) return {};
  auto next = list();
  std::vector<PagePool*> pools;
  std::vector<int> numbers;
  for (int i = source_.plain_pages; i < int(next.size()); ++i) {
    if (!next[i] || next[i]->packed) continue;
    numbers.push_back(i);
    pools.push_back(source_.packed.get());
  }
  auto fresh = take(pools);
  std::vector<Copy> copies;
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    auto& page = next[numbers[i]];
    copies.push_back({page, fresh[i], numbers[i]});
    drop(*page);
    page = fresh[i];
  }
  packing_ = true;
  publish(std::move(next));
  return copies;
}

void PageTable::unpack() {
  MLXLM_CHECK(list().empty(), "only an empty table goes back to plain pages");
  packing_ = false;
}

void PageTable::adopt(std::vector<PagePtr> pages, int passed) {
  MLXLM_CHECK(list().empty(), "only an empty table takes over pages");
  for (auto& page : pages) {
    if (page) ++page->owners;
  }
  dropped_ = passed;
  publish(std::move(pages));
}

void PageTable::exchange(const std::vector<PagePtr>& pages) {
  auto next = list();
  bool changed = false;
  for (std::size_t i = 0; i < std::min(pages.size(), next.size()); ++i) {
    auto& mine = next[i];
    const auto& other = pages[i];
    bool same = !mine || !other || mine == other;
    if (same || mine->packed != other->packed) continue;
    ++other->owners;
    drop(*mine);
    mine = other;
    changed = true;
  }
  if (changed) publish(std::move(next));
}

bool PageTable::all_packed() const {
  if (!source_.packed) return true;
  auto first = std::min(list().size(), std::size_t(source_.plain_pages));
  return std::all_of(
      list().begin() + std::ptrdiff_t(first), list().end(), [](auto& page) {
        return !page || page->packed;
      });
}

std::size_t PageTable::bytes() const {
  std::size_t total = 0;
  for (auto& page : list()) {
    if (page) total += pool_of(*page)->page_bytes();
  }
  return total;
}

} // namespace mlxlm::cache

// Page pool and page tables; see pages.h.
#include "cache/pages.h"

#include <algorithm>
#include <new>

#include "core/check.h"
#include "runtime/kernels/attention/page_layout.h"

namespace mlxlm::cache {

namespace {
constexpr std::align_val_t page_alignment{4096};
constexpr std::size_t slack = kernels::PageLayout::slack;
} // namespace

PagePool::PagePool(std::size_t page_bytes, bool raw)
    : page_bytes_(page_bytes), raw_(raw) {}

PagePool::~PagePool() {
  release_spares();
  for (auto* page : spares_)
    delete page;
}

PagePtr PagePool::take() {
  Page* page = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (spares_.empty()) {
      page = new Page{next_id_++, nullptr};
    } else {
      page = spares_.back();
      spares_.pop_back();
    }
  }
  if (raw_ && !page->data) {
    try {
      page->data = static_cast<std::byte*>(operator new(
          page_bytes_ + slack, page_alignment));
    } catch (const std::bad_alloc&) {
      recycle(page);
      fail(
          ErrorKind::resource,
          "kv memory",
          "expected a page of {} bytes, found no memory",
          page_bytes_);
    }
  }
  page->owners = 1;
  ++owned_;
  return PagePtr(
      page, [pool = shared_from_this()](Page* p) { pool->recycle(p); });
}

void PagePool::share(Page& page) {
  ++page.owners;
}

void PagePool::drop(Page& page) {
  if (--page.owners == 0) --owned_;
}

void PagePool::recycle(Page* page) {
  std::lock_guard lock(mutex_);
  spares_.push_back(page);
}

void PagePool::release_spares() {
  std::lock_guard lock(mutex_);
  for (auto* page : spares_) {
    if (page->data) operator delete(page->data, page_alignment);
    page->data = nullptr;
  }
}

std::size_t PagePool::spare_bytes() const {
  std::lock_guard lock(mutex_);
  auto filled = std::count_if(spares_.begin(), spares_.end(), [](auto* page) {
    return page->data != nullptr;
  });
  return std::size_t(filled) * page_bytes_;
}

PageList::PageList(std::vector<PagePtr> list) : pages(std::move(list)) {
  for (auto& page : pages)
    data.push_back(page ? page->data : nullptr);
}

PageTable::PageTable(
    std::shared_ptr<PagePool> pool,
    int page_tokens,
    int window)
    : pool_(std::move(pool)),
      page_tokens_(page_tokens),
      window_(window),
      pages_(std::make_shared<const PageList>(std::vector<PagePtr>{})) {}

PageTable::~PageTable() {
  if (!pages_) return; // moved from
  for (auto& page : list()) {
    if (page) pool_->drop(*page);
  }
}

void PageTable::publish(std::vector<PagePtr> pages) {
  pages_ = std::make_shared<const PageList>(std::move(pages));
}

bool PageTable::shared_tail(int length) const {
  return length % page_tokens_ != 0 &&
      list()[length / page_tokens_]->owners > 1;
}

int PageTable::missing(int length, int tokens) const {
  if (tokens == 0) return 0;
  int fresh = pages_for(length + tokens) - int(list().size());
  return std::max(fresh, 0) + (shared_tail(length) ? 1 : 0);
}

std::vector<PageTable::Copy> PageTable::reserve(int length, int tokens) {
  std::vector<Copy> copies;
  if (missing(length, tokens) == 0) return copies;
  auto next = list();
  std::vector<PagePtr> fresh; // all taken before anything changes
  for (int i = missing(length, tokens); i > 0; --i) {
    try {
      fresh.push_back(pool_->take());
    } catch (...) {
      for (auto& page : fresh)
        pool_->drop(*page);
      throw;
    }
  }
  if (shared_tail(length)) {
    auto& tail = next[length / page_tokens_];
    copies.push_back({tail, fresh.back()});
    pool_->drop(*tail);
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
    if (next[i]) pool_->drop(*next[i]);
  }
  next.resize(keep);
  dropped_ = std::min(dropped_, int(keep));
  publish(std::move(next));
}

void PageTable::slide(int length) {
  if (window_ == 0) return;
  int passed = (length - window_ + 1) / page_tokens_ - 1;
  passed = std::min(passed, int(list().size()));
  if (passed <= dropped_) return;
  auto next = list();
  for (int i = dropped_; i < passed; ++i) {
    pool_->drop(*next[i]);
    next[i] = nullptr;
  }
  dropped_ = passed;
  publish(std::move(next));
}

bool PageTable::reaches(int length) const {
  int oldest = window_ == 0 ? 0 : std::max(0, length - window_ + 1);
  return length == 0 || dropped_ * page_tokens_ <= oldest;
}

PageTable PageTable::fork() const {
  PageTable copy(pool_, page_tokens_, window_);
  copy.pages_ = pages_;
  copy.dropped_ = dropped_;
  for (auto& page : list()) {
    if (page) pool_->share(*page);
  }
  return copy;
}

int PageTable::owned() const {
  return int(list().size()) - dropped_;
}

} // namespace mlxlm::cache

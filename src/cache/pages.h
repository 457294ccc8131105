// Pages, the pool they come from and a sequence's table of them. A page holds
// `page_tokens` tokens' rows for all layers of one group. Tables and ownership
// counts belong to one thread; a page itself may be kept alive by work still
// queued on another, and returns to its pool when the last holder lets go.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace mlxlm::cache {

struct Page {
  int id;
  int slab;
  std::byte* data; // null unless the pool is raw
  int owners = 1; // tables that list it
};
using PagePtr = std::shared_ptr<Page>;
// A sequence's pages by number; null where a window has passed.
struct PageList {
  std::vector<PagePtr> pages;
  std::vector<std::byte*> data; // of each page

  explicit PageList(std::vector<PagePtr> list);
};

class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  // raw: pages own page_bytes of memory and a little that vector loads may read
  // behind it; else they are only numbers.
  PagePool(std::size_t page_bytes, bool raw);
  ~PagePool();

  PagePtr take();
  void share(Page& page);
  void drop(Page& page);
  // Gives memory of unused pages back.
  void release_spares();

  std::size_t page_bytes() const { // as accounted
    return page_bytes_;
  }
  int owned() const {
    return owned_;
  }

 private:
  struct Slab { // memory of several pages, in huge pages where there are any
    std::byte* memory;
    int pages, spare;
  };

  void grow();
  void recycle(Page* page);

  std::size_t page_bytes_;
  bool raw_;
  int owned_ = 0; // pages listed in some table
  std::mutex mutex_;
  int next_id_ = 0;
  std::vector<Slab> slabs_;
  std::vector<Page*> spares_;
};

class PageTable {
 public:
  PageTable(std::shared_ptr<PagePool> pool, int page_tokens, int window);
  PageTable(PageTable&& other) noexcept = default;
  PageTable& operator=(PageTable&&) = delete;
  ~PageTable();

  struct Copy {
    PagePtr from, to;
  };

  // Pages to take before `tokens` more fit behind `length`.
  int missing(int length, int tokens) const;
  // Takes them; where the last page is shared the caller must copy it.
  std::vector<Copy> reserve(int length, int tokens);
  // Keeps the pages of the first `length` tokens.
  void shorten(int length);
  // Drops pages that no token from `length` on sees. One page more is kept, so
  // that a step back never starts again.
  void slide(int length);
  // Whether all that a token at `length` sees is still here.
  bool reaches(int length) const;
  PageTable fork() const;

  // A snapshot: later edits leave it as it is.
  const std::shared_ptr<const PageList>& pages() const {
    return pages_;
  }
  int owned() const;

 private:
  int pages_for(int tokens) const {
    return (tokens + page_tokens_ - 1) / page_tokens_;
  }
  bool shared_tail(int length) const;
  const std::vector<PagePtr>& list() const {
    return pages_->pages;
  }
  void publish(std::vector<PagePtr> pages);

  std::shared_ptr<PagePool> pool_;
  int page_tokens_;
  int window_;
  std::shared_ptr<const PageList> pages_;
  int dropped_ = 0; // leading pages a window has passed
};

} // namespace mlxlm::cache

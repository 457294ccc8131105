// Pages, the pool they come from and a sequence's table of them. A page holds
// `page_tokens` tokens' rows for all layers of one group. Tables and ownership
// counts belong to one thread; a page itself may be kept alive by work still
// queued on another, and returns to its pool when the last holder lets go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace mlxlm::cache {

struct Page {
  int id;
  int slab;
  std::byte* data; // null unless the pool is raw
  int owners = 1; // tables that list it
  bool packed = false;
};
using PagePtr = std::shared_ptr<Page>;
// A sequence's pages by number; null where a window has passed.
struct PageList {
  std::vector<PagePtr> pages;
  std::vector<std::byte*> data; // of each page
  std::vector<std::uint8_t> packed; // of each page

  explicit PageList(std::vector<PagePtr> list);
};

class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  // raw: pages own page_bytes of memory and a little that vector loads may read
  // behind it; else they are only numbers.
  PagePool(std::size_t page_bytes, bool raw, bool packed = false);
  ~PagePool();

  PagePtr take();
  void drop(Page& page);
  // Gives memory of unused pages back.
  void release_spares();

  std::size_t page_bytes() const { // as accounted
    return page_bytes_;
  }
  int owned() const {
    return owned_;
  }
  // Pages taken and not given back, be it that only work under way has them.
  int live() const;

 private:
  struct Slab { // memory of several pages, in huge pages where there are any
    std::byte* memory;
    int pages, spare;
  };

  void grow();
  void recycle(Page* page);

  std::size_t page_bytes_;
  bool raw_, packed_;
  int owned_ = 0; // pages listed in some table
  mutable std::mutex mutex_;
  int live_ = 0;
  int next_id_ = 0;
  std::vector<Slab> slabs_;
  std::vector<Page*> spares_;
};

// Where the pages of a group come from and which of them it needs.
struct PageSource {
  std::shared_ptr<PagePool> plain;
  std::shared_ptr<PagePool> packed; // null: nothing is packed
  int page_tokens;
  int plain_pages = 0; // first pages that are never packed
  int window = 0, keep = 0; // as in Geometry
};

class PageTable {
 public:
  explicit PageTable(PageSource source);
  PageTable(PageTable&& other) noexcept = default;
  PageTable& operator=(PageTable&&) = delete;
  ~PageTable();

  struct Copy {
    PagePtr from, to;
    int number = 0; // of the page in the table
  };

  // Bytes of the pages to take before `tokens` more fit behind `length`.
  std::size_t missing(int length, int tokens) const;
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
  // From here on pages are taken packed; what is there moves to packed pages,
  // which the caller fills.
  std::size_t packing_bytes() const;
  std::vector<Copy> pack();
  // The opposite, of an empty table.
  void unpack();
  // Lists another's pages, of an empty table. `passed`: as many, but for the
  // kept ones, are null.
  void adopt(std::vector<PagePtr> pages, int passed);
  // Lists these pages instead of those of the same number, where both are there
  // and stored alike.
  void exchange(const std::vector<PagePtr>& pages);
  // Whether all pages that are to be packed are.
  bool all_packed() const;

  // A snapshot: later edits leave it as it is.
  const std::shared_ptr<const PageList>& pages() const {
    return pages_;
  }
  std::size_t bytes() const;
  const std::shared_ptr<PagePool>& pool_of(const Page& page) const {
    return page.packed ? source_.packed : source_.plain;
  }

 private:
  int kept_pages() const {
    return source_.window > 0 ? pages_for(source_.keep) : 0;
  }
  PagePool& pool_for(int number) const {
    bool packed = packing_ && number >= source_.plain_pages;
    return packed ? *source_.packed : *source_.plain;
  }
  void drop(Page& page) const {
    pool_of(page)->drop(page);
  }
  std::vector<PagePtr> take(const std::vector<PagePool*>& pools) const;
  int pages_for(int tokens) const {
    return (tokens + source_.page_tokens - 1) / source_.page_tokens;
  }
  bool shared_tail(int length) const;
  const std::vector<PagePtr>& list() const {
    return pages_->pages;
  }
  void publish(std::vector<PagePtr> pages);

  PageSource source_;
  bool packing_ = false;
  std::shared_ptr<const PageList> pages_;
  // Pages before this one a window has passed, but for the kept ones.
  int dropped_ = 0;
};

} // namespace mlxlm::cache

// Pages in plain memory, read in place by the CPU's attention. A page holds the
// rows of every layer of the group, one layer after the other.
#pragma once

#include "cache/store.h"
#include "runtime/kernels/attention/paged_rows.h"

namespace mlxlm::cache {

struct PackedLayer {
  std::shared_ptr<const kernels::PackedLayout> layout;
  std::size_t offset; // of its part in a page
};

class PagedStore final : public KvStore {
 public:
  PagedStore(const Group& group, const StoreOptions& options);
  Attended attend(
      int slot,
      const GroupViews& views,
      const mx::array& q,
      const std::optional<KeysValues>& rows,
      const AttendOptions& options,
      const std::vector<mx::array>& after) override;
  Attended keep(
      int slot,
      const GroupViews& group,
      const mx::array& rows,
      const std::vector<mx::array>& after) override;
  mx::array kept(
      int slot,
      const View& view,
      const std::vector<mx::array>& after) override;
  void copy(const Page& from, const Page& to) override;
  void pack(const Page* before, const Page& from, const Page& to, int tokens)
      override;
  CacheRows read(
      int slot,
      const PageList& pages,
      int first,
      int count,
      bool codes) override;
  void write(
      int slot,
      const std::shared_ptr<const PageList>& pages,
      int first,
      const CacheRows& rows) override;
  std::vector<std::byte> packed_layer(int slot, const Page& page) override;
  bool set_packed_layer(
      int slot,
      const Page& page,
      std::span<const std::byte> bytes) override;
  std::size_t packed_page_bytes() const override {
    return packed_bytes_;
  }

 private:
  CacheRows blank_rows(
      int slot,
      const PageList& pages,
      int first,
      int count,
      bool codes) const;
  // Of layer `slot`, before its rows come.
  void begin_page(
      int slot,
      const Page* before,
      std::byte* page,
      int head,
      const float* key,
      const float* query_energy);
  struct Written { // rows to be written
    CacheRows& codes; // empty where they came as numbers
    const CacheRows& plain;
  };
  void write_row(
      int slot,
      const PageList& pages,
      int first,
      const Written& rows,
      int i,
      float* scratch);
  kernels::PagedRows rows_of(
      int slot,
      std::vector<kernels::PagedSegment> segments) const;
  kernels::PageLayout layout_;
  int window_;
  bool chunked_;
  int keep_;
  std::size_t page_bytes_, packed_bytes_ = 0;
  std::vector<PackedLayer> packed_; // empty: nothing is packed
};

// Of a page with the packed rows of all layers of a group.
std::size_t packed_page_bytes(const Group& group, const StoreOptions& options);

} // namespace mlxlm::cache

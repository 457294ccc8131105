// Pages as rows of MLX arrays, written by scatter and read by gather: any
// device. Packed pages hold rows as the plain MLX codecs give them.
#pragma once

#include "cache/array_pages.h"
#include "cache/store.h"

namespace mlxlm::cache {

class ArrayStore final : public KvStore {
 public:
  ArrayStore(const Group& group, const StoreOptions& options);
  Attended attend(
      int slot,
      const GroupViews& group,
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
  std::size_t packed_page_bytes() const override;

 private:
  struct Gathered {
    Arrays keys, values; // of runs of pages
    std::vector<int> positions;
  };

  // Keeps those of the pass' rows that lie in packed or in plain pages.
  void put(
      int slot,
      const std::vector<View>& views,
      const KeysValues& rows,
      bool packed,
      const std::optional<mx::array>& q = std::nullopt);

  // Keys that are differences from centers (array_store_centers.cpp): those of
  // packed pages, of plain ones what their queries weigh. keys: [N, kv_heads,
  // k_dim] of the whole pass.
  void begin_pages(
      int slot,
      const std::vector<View>& views,
      const mx::array& keys,
      bool packed,
      const std::optional<mx::array>& q);
  // Of a plain page's queries; none: not known.
  void keep_energy(
      int slot,
      const Page& page,
      const std::optional<mx::array>& query_energy);
  // As kernels::begin_page.
  void begin_page(
      int slot,
      const Page* before,
      const Page& page,
      const mx::array& first_key,
      const std::optional<mx::array>& query_energy);
  // Keys [n, kv_heads, k_dim] of one page from `token` on.
  void put_keys(int slot, const Page& page, int token, const mx::array& keys);
  // [1, kv_heads, k_dim], behind a whole packed page, stretched and rotated.
  mx::array center_behind(int slot, const Page& page);

  // Appends rows of pages [first, last) of the view, all of one kind.
  void gather(int slot, const View& view, int first, int last, Gathered& out)
      const;
  // Rows of the first `kept` pages and from page `oldest` on.
  Gathered gather(int slot, const View& view, int kept, int oldest) const;
  mx::array attend_one(
      int slot,
      const View& view,
      const mx::array& q,
      const std::optional<KeysValues>& rows,
      const AttendOptions& options) const;

  Arrays page_rows(int layer, const Page& page);
  void put_page(int layer, const Page& page, const Arrays& rows);
  // The pages of its kind, with room for it.
  ArrayPages& side(const Page& page);

  Geometry geometry_;
  StoreOptions options_;
  ArrayPages sides_[2]; // plain, packed
};

} // namespace mlxlm::cache

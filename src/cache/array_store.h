// Pages as rows of MLX arrays, written by scatter and read by gather: any
// device. Packed pages hold rows as the plain MLX codecs give them.
#pragma once

#include "cache/store.h"
#include "runtime/kernels/attention/centered_keys.h"
#include "runtime/kernels/attention/reference.h"
#include "runtime/kernels/attention/row_coder.h"

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
  using Arrays = std::vector<mx::array>;

  using PageHeads = kernels::reference::PageHeads;

  // How one layer's rows become arrays.
  class Coder {
   public:
    Coder(
        const Geometry& geometry,
        mx::Dtype type,
        const kernels::RowCodec& keys,
        const kernels::RowCodec& values);
    Arrays encode(const KeysValues& rows) const; // [N, kv_heads, dim]
    // As PackedLayout::sees_own.
    bool sees_own() const;
    // heads: of the pages whose keys are centered().
    KeysValues decode(const Arrays& coded, const PageHeads& heads) const;
    // The coder of keys that are differences from centers; else null. They come
    // first among the arrays.
    const kernels::reference::RowCoder* centered() const;

   private:
    struct Part {
      int begin, dim;
      kernels::reference::RowCoder coder;
      bool turbo;
    };
    std::vector<Part> keys_;
    std::vector<Part> values_; // none when latent
    int v_dim_;
  };
  // Rows of plain or of packed pages: per layer arrays
  // [pages * page_tokens, kv_heads, w].
  struct Side {
    int capacity = 0; // pages
    std::vector<Coder> coders;
    std::vector<Arrays> layers;
    std::vector<PageHeads> heads; // of each layer
    // Of each layer, where plain pages keep them [pages, kv_heads, k_dim].
    Arrays energies;
  };
  struct Gathered {
    Arrays keys, values; // of runs of pages
    std::vector<int> positions;
  };

  void grow(Side& side, int pages) const;
  void put(
      int slot,
      const std::vector<View>& views,
      const KeysValues& rows,
      bool packed,
      const std::optional<mx::array>& q = std::nullopt);
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
  // Keys [n, kv_heads, k_dim] of a packed page from `token` on, where they have
  // centers.
  void put_keys(int slot, const Page& page, int token, const mx::array& keys);
  // [1, kv_heads, k_dim], behind a whole packed page, stretched and rotated.
  mx::array center_behind(int slot, const Page& page);
  PageHeads heads_of(int slot, const Page& page);
  void gather(int slot, const View& view, int first, int last, Gathered& out)
      const;
  Gathered gather(int slot, const View& view, int kept, int oldest) const;
  mx::array attend_one(
      int slot,
      const View& view,
      const mx::array& q,
      const std::optional<KeysValues>& rows,
      const AttendOptions& options) const;
  Arrays page_rows(int layer, const Page& page);
  void put_page(int layer, const Page& page, const Arrays& rows);
  Side& side(const Page& page) {
    return sides_[page.packed];
  }

  Geometry geometry_;
  StoreOptions options_;
  Side sides_[2]; // plain, packed
};

} // namespace mlxlm::cache

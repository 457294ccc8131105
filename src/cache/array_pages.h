// Pages of one kind, plain or packed, as rows of MLX arrays: every layer has
// arrays [pages * page_tokens, kv_heads, width], as its coder gives them.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "cache/layer_coder.h"

namespace mlxlm::cache {

class ArrayPages {
 public:
  explicit ArrayPages(int page_tokens) : page_tokens_(page_tokens) {}

  // keeps_energies: see energy().
  void add_layer(
      const Geometry& geometry,
      mx::Dtype type,
      LayerCoder coder,
      bool keeps_energies);
  int layers() const {
    return int(layers_.size());
  }
  const LayerCoder& coder(int layer) const {
    return layers_[layer].coder;
  }
  std::size_t page_bytes() const; // of all layers
  // Room for so many pages at least.
  void grow(int pages);

  // Rows one by one; the arrays from number `skip` on, coded [n, kv_heads, w].
  void scatter(
      int layer,
      const std::vector<int>& rows,
      const Arrays& coded,
      std::size_t skip);
  // Rows from `first` on; the first arrays, as many as `coded` has.
  void put(int layer, int first, const Arrays& coded);
  // The first of the layer's arrays, written or not: whoever evaluates it
  // evaluates what was written.
  const mx::array& rows(int layer) const {
    return layers_[layer].arrays[0];
  }

  Arrays page(int layer, int id) const; // [page_tokens, kv_heads, w]
  // Decoded, [pages * page_tokens, kv_heads, dim].
  KeysValues pages(int layer, const std::vector<int>& ids) const;
  void copy(int from, int to);

  // All that a layer has of a page, its head too, one array behind the other.
  std::vector<std::byte> bytes(int layer, int id) const;
  // False where the size is another.
  bool set_bytes(int layer, int id, std::span<const std::byte> bytes);

  // Of layers whose keys have centers.
  PageHeads heads(int layer, int id) const; // [1, kv_heads, k_dim]
  void put_heads(int layer, int id, const PageHeads& heads);

  // What a page's queries weigh, for when it is packed: [1, kv_heads, k_dim],
  // below 0 where it is not known (moved_stretch).
  bool keeps_energies() const {
    return !layers_.empty() && layers_[0].energy;
  }
  mx::array energy(int layer, int id) const;
  void put_energy(int layer, int id, const mx::array& energy);

 private:
  struct Layer {
    LayerCoder coder;
    Arrays arrays;
    std::optional<PageHeads> heads;
    std::optional<mx::array> energy; // [pages, kv_heads, k_dim]
  };
  // page() and the arrays of heads().
  Arrays with_heads(int layer, int id) const;

  int page_tokens_;
  int capacity_ = 0; // pages
  std::vector<Layer> layers_;
};

} // namespace mlxlm::cache

// How the layers of a model map to memory: layers whose rows have one shape and
// one window form a group; a sequence has one page table per group, and a page
// holds its tokens' rows for every layer of the group.
#pragma once

#include <mlx/dtype.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "cache/memory.h"

namespace mlxlm::cache {

struct Geometry {
  int kv_heads, k_dim, v_dim;
  int window = 0; // 0: everything
  bool latent = false; // values are the first v_dim entries of the keys
  bool chunked = false; // windows begin at multiples of `window`
  bool readable = false; // latent rows are also read without attention
  bool exact = false; // rows are never packed
  int keep = 0; // with a window: first tokens seen for ever

  bool operator==(const Geometry&) const = default;
  std::size_t bytes_per_token(mx::Dtype type) const;
  // What is still seen of a sequence of `length` tokens, as runs [first, last).
  std::vector<std::pair<int, int>> shown(int length) const;
};

struct Group {
  Geometry geometry;
  int layers = 0;
  // Of each: its place among all whose keys may be packed.
  std::vector<int> order = {};
};

struct Layer {
  enum class Kind { none, keys_values, recurrent };
  Kind kind = Kind::none;
  int group = -1; // keys_values: its group
  int slot = -1; // its place in the group, or among the recurrent layers
  bool borrows = false; // group and slot are another layer's
};

struct Layout {
  std::vector<Group> groups;
  std::vector<Layer> layers;
  std::vector<Recurrent> recurrent;
  int with_keys = 0; // layers that keep keys of their own, not exact ones

  // Throws Error(internal) for specs that make no sense.
  explicit Layout(const std::vector<CacheSpec>& specs);
  // Of one copy of a sequence's recurrent states.
  std::size_t state_bytes() const;
  // Bounds layers without a window, but those whose rows are all read.
  void limit(int tokens, int keep);
};

} // namespace mlxlm::cache

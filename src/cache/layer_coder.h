// How one layer's keys and values become arrays: as they are, or as the plain
// MLX codecs give them; latent rows in two parts.
#pragma once

#include <vector>

#include "cache/store.h"
#include "runtime/kernels/attention/centered_keys.h"
#include "runtime/kernels/attention/row_coder.h"

namespace mlxlm::cache {

using Arrays = std::vector<mx::array>;
using kernels::reference::PageHeads;

class LayerCoder {
 public:
  LayerCoder(
      const Geometry& geometry,
      mx::Dtype type,
      const kernels::RowCodec& keys,
      const kernels::RowCodec& values);
  Arrays encode(const KeysValues& rows) const; // [N, kv_heads, dim]
  // heads: of the pages whose keys are centered(), else not read.
  KeysValues decode(const Arrays& coded, const PageHeads* heads) const;
  // As PackedLayout::sees_own.
  bool sees_own() const;
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

} // namespace mlxlm::cache

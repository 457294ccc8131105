// A layer's rows as arrays and back; see layer_coder.h.
#include "cache/layer_coder.h"

#include <mlx/ops.h>

#include "runtime/kernels/attention/reference.h"
#include "runtime/slices.h"

namespace mlxlm::cache {

namespace reference = kernels::reference;

namespace {

mx::array columns(const mx::array& x, int begin, int count) {
  return slice_axis(x, -1, begin, begin + count);
}

} // namespace

LayerCoder::LayerCoder(
    const Geometry& g,
    mx::Dtype type,
    const kernels::RowCodec& keys,
    const kernels::RowCodec& values)
    : v_dim_(g.v_dim) {
  auto part = [&](auto& codec, int begin, int dim, std::uint32_t seed) {
    bool turbo = codec.kind == kernels::RowCodec::Kind::turbo;
    return Part{begin, dim, {codec, dim, type, seed}, turbo};
  };
  if (!g.latent) {
    keys_.push_back(part(keys, 0, g.k_dim, reference::key_seed));
    values_.push_back(part(values, 0, g.v_dim, reference::value_seed));
    return;
  }
  keys_.push_back(part(keys, 0, g.v_dim, reference::key_seed));
  if (g.k_dim > g.v_dim) {
    keys_.push_back(
        part(keys, g.v_dim, g.k_dim - g.v_dim, reference::key_seed));
  }
}

Arrays LayerCoder::encode(const KeysValues& rows) const {
  Arrays out;
  auto add = [&](const std::vector<Part>& parts, const mx::array& x) {
    for (auto& part : parts) {
      for (auto& coded : part.coder.encode(columns(x, part.begin, part.dim)))
        out.push_back(coded);
    }
  };
  add(keys_, rows.k);
  add(values_, rows.v);
  return out;
}

bool LayerCoder::sees_own() const {
  return !values_.empty() && (keys_[0].turbo || values_[0].turbo);
}

const reference::RowCoder* LayerCoder::centered() const {
  bool are = !values_.empty() && keys_[0].turbo;
  return are ? &keys_[0].coder : nullptr;
}

KeysValues LayerCoder::decode(const Arrays& coded, const PageHeads* heads)
    const {
  auto at = coded.begin();
  auto all = [&](const std::vector<Part>& list) {
    if (auto* coder = centered(); coder && &list == &keys_) {
      at += coder->arrays();
      return reference::centered_keys(*coder, {coded.begin(), at}, *heads);
    }
    Arrays out;
    for (auto& part : list) {
      auto end = at + part.coder.arrays();
      out.push_back(part.coder.decode({at, end}));
      at = end;
    }
    return mx::concatenate(std::move(out), -1);
  };
  auto k = all(keys_);
  if (values_.empty()) return {k, columns(k, 0, v_dim_)};
  return {k, all(values_)};
}

} // namespace mlxlm::cache

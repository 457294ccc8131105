// Rows of pages in MLX arrays; see array_pages.h.
#include "cache/array_pages.h"

#include <mlx/ops.h>

#include <algorithm>

#include "runtime/slices.h"

namespace mlxlm::cache {

namespace {

mx::array with_rows(const mx::array& x, int first, const mx::array& value) {
  mx::Shape start{first, 0, 0};
  mx::Shape stop{first + value.shape(0), x.shape(1), x.shape(2)};
  return mx::slice_update(x, mx::astype(value, x.dtype()), start, stop);
}

mx::array index_array(const std::vector<int>& x) {
  return mx::array(x.begin(), mx::Shape{int(x.size())}, mx::int32);
}

} // namespace

void ArrayPages::add_layer(
    const Geometry& g,
    mx::Dtype type,
    LayerCoder coder,
    bool keeps_energies) {
  auto one = [&](int dim) { return mx::zeros({1, g.kv_heads, dim}, type); };
  Arrays arrays;
  for (auto& x : coder.encode({one(g.k_dim), one(g.v_dim)}))
    arrays.push_back(mx::zeros({0, g.kv_heads, x.shape(-1)}, x.dtype()));
  std::optional<PageHeads> heads;
  mx::Shape none{0, g.kv_heads, g.k_dim};
  if (coder.centered())
    heads = {mx::zeros(none, mx::float16), mx::zeros(none, mx::int8)};
  std::optional<mx::array> energy;
  if (keeps_energies) energy = mx::zeros(none, mx::float32);
  layers_.push_back(
      {std::move(coder), std::move(arrays), std::move(heads), energy});
}

std::size_t ArrayPages::page_bytes() const {
  std::size_t bytes = 0;
  auto row = [](const mx::array& x) {
    return std::size_t(x.shape(1)) * x.shape(2) * x.itemsize();
  };
  for (auto& layer : layers_) {
    for (auto& x : layer.arrays)
      bytes += page_tokens_ * row(x);
    if (layer.heads)
      bytes += row(layer.heads->center) + row(layer.heads->stretch);
  }
  return bytes;
}

void ArrayPages::grow(int pages) {
  if (pages <= capacity_) return;
  int next = std::max({pages, 2 * capacity_, 8});
  int more = next - capacity_;
  auto longer = [](mx::array& x, int rows) {
    auto zeros = mx::zeros({rows, x.shape(1), x.shape(2)}, x.dtype());
    x = mx::concatenate({x, zeros}, 0);
  };
  for (auto& layer : layers_) {
    for (auto& x : layer.arrays)
      longer(x, more * page_tokens_);
    if (layer.energy) longer(*layer.energy, more);
    if (!layer.heads) continue;
    longer(layer.heads->center, more);
    longer(layer.heads->stretch, more);
  }
  capacity_ = next;
}

void ArrayPages::scatter(
    int layer,
    const std::vector<int>& rows,
    const Arrays& coded,
    std::size_t skip) {
  for (auto i = skip; i < coded.size(); ++i) {
    auto& x = layers_[layer].arrays[i];
    x = mx::scatter(x, index_array(rows), mx::expand_dims(coded[i], 1), 0);
  }
}

void ArrayPages::put(int layer, int first, const Arrays& coded) {
  for (std::size_t i = 0; i < coded.size(); ++i) {
    auto& x = layers_[layer].arrays[i];
    x = with_rows(x, first, coded[i]);
  }
}

Arrays ArrayPages::page(int layer, int id) const {
  Arrays out;
  for (auto& x : layers_[layer].arrays)
    out.push_back(slice_axis(x, 0, id * page_tokens_, (id + 1) * page_tokens_));
  return out;
}

KeysValues ArrayPages::pages(int layer, const std::vector<int>& ids) const {
  auto& mine = layers_[layer];
  auto index = index_array(ids);
  Arrays coded;
  for (auto& x : mine.arrays) {
    int heads = x.shape(1), width = x.shape(2);
    auto paged = mx::reshape(x, {capacity_, page_tokens_, heads, width});
    coded.push_back(mx::reshape(
        mx::take(paged, index, 0),
        {int(ids.size()) * page_tokens_, heads, width}));
  }
  if (!mine.heads) return mine.coder.decode(coded, nullptr);
  PageHeads heads{
      mx::take(mine.heads->center, index, 0),
      mx::take(mine.heads->stretch, index, 0)};
  return mine.coder.decode(coded, &heads);
}

void ArrayPages::copy(int from, int to) {
  for (int i = 0; i < layers(); ++i) {
    put(i, to * page_tokens_, page(i, from));
    if (layers_[i].heads) put_heads(i, to, heads(i, from));
    if (layers_[i].energy) put_energy(i, to, energy(i, from));
  }
}

Arrays ArrayPages::with_heads(int layer, int id) const {
  auto out = page(layer, id);
  if (!layers_[layer].heads) return out;
  auto head = heads(layer, id);
  out.insert(out.end(), {head.center, head.stretch});
  return out;
}

std::vector<std::byte> ArrayPages::bytes(int layer, int id) const {
  std::vector<std::byte> out;
  for (auto x : with_heads(layer, id)) {
    x = mx::contiguous(x);
    x.eval();
    auto* begin = x.data<std::byte>();
    out.insert(out.end(), begin, begin + x.nbytes());
  }
  return out;
}

bool ArrayPages::set_bytes(
    int layer,
    int id,
    std::span<const std::byte> bytes) {
  auto parts = with_heads(layer, id);
  std::size_t wanted = 0;
  for (auto& x : parts)
    wanted += x.nbytes();
  if (bytes.size() != wanted) return false;
  for (auto& x : parts) {
    auto part = bytes.first(x.nbytes());
    mx::array raw(
        reinterpret_cast<const std::uint8_t*>(part.data()),
        {int(part.size())},
        mx::uint8);
    x = mx::reshape(mx::view(raw, x.dtype()), x.shape());
    bytes = bytes.subspan(part.size());
  }
  if (layers_[layer].heads) {
    auto head = parts.end() - 2;
    put_heads(layer, id, {head[0], head[1]});
    parts.erase(head, parts.end());
  }
  put(layer, id * page_tokens_, parts);
  return true;
}

PageHeads ArrayPages::heads(int layer, int id) const {
  auto& all = *layers_[layer].heads;
  return {
      slice_axis(all.center, 0, id, id + 1),
      slice_axis(all.stretch, 0, id, id + 1)};
}

void ArrayPages::put_heads(int layer, int id, const PageHeads& heads) {
  auto& all = *layers_[layer].heads;
  all.center = with_rows(all.center, id, heads.center);
  all.stretch = with_rows(all.stretch, id, heads.stretch);
}

mx::array ArrayPages::energy(int layer, int id) const {
  return slice_axis(*layers_[layer].energy, 0, id, id + 1);
}

void ArrayPages::put_energy(int layer, int id, const mx::array& energy) {
  auto& all = *layers_[layer].energy;
  all = with_rows(all, id, energy);
}

} // namespace mlxlm::cache

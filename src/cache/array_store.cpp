// Paged keys and values in MLX arrays; see array_store.h.
#include "cache/array_store.h"

#include <mlx/ops.h>

#include <algorithm>

#include "core/check.h"
#include "runtime/kernels/attention/reference.h"

namespace mlxlm::cache {

ArrayStore::ArrayStore(const Group& group, const StoreOptions& options)
    : geometry_(group.geometry), options_(options) {
  auto rows = [&](int dim) {
    return mx::zeros({0, geometry_.kv_heads, dim}, options_.dtype);
  };
  int v_dim = geometry_.latent ? 0 : geometry_.v_dim;
  for (int i = 0; i < group.layers; ++i) {
    layers_.push_back({rows(geometry_.k_dim), rows(v_dim)});
  }
}

void ArrayStore::grow(int pages) {
  if (pages <= capacity_) return;
  int next = std::max({pages, 2 * capacity_, 8});
  auto extend = [&](mx::array& rows) {
    mx::Shape shape{
        (next - capacity_) * options_.page_tokens,
        rows.shape(1),
        rows.shape(2)};
    rows = mx::concatenate({rows, mx::zeros(shape, options_.dtype)}, 0);
  };
  for (auto& layer : layers_) {
    extend(layer.keys);
    extend(layer.values);
  }
  capacity_ = next;
}

mx::array ArrayStore::places(const std::vector<View>& views) const {
  std::vector<int> rows;
  for (auto& view : views) {
    for (int i = view.offset; i < view.offset + view.count; ++i) {
      auto& page = view.pages->pages[i / options_.page_tokens];
      rows.push_back(
          page->id * options_.page_tokens + i % options_.page_tokens);
    }
  }
  return mx::array(rows.begin(), mx::Shape{int(rows.size())}, mx::int32);
}

mx::array ArrayStore::gather(
    const mx::array& rows,
    const View& view,
    int first_page) const {
  int end = view.offset + view.count, tokens = options_.page_tokens;
  std::vector<int> ids;
  for (int i = first_page; i * tokens < end; ++i) {
    ids.push_back(view.pages->pages[i]->id);
  }
  int heads = rows.shape(1), dim = rows.shape(2), pages = int(ids.size());
  auto paged = mx::reshape(rows, {capacity_, tokens, heads, dim});
  auto taken =
      mx::take(paged, mx::array(ids.begin(), mx::Shape{pages}, mx::int32), 0);
  taken = mx::reshape(taken, {1, pages * tokens, heads, dim});
  return mx::slice(
      taken, {0, 0, 0, 0}, {1, end - first_page * tokens, heads, dim});
}

mx::array ArrayStore::attend_one(
    const Rows& rows,
    const View& view,
    const mx::array& q,
    const AttendOptions& options) const {
  int oldest = geometry_.window == 0
      ? 0
      : std::max(0, view.offset - geometry_.window + 1);
  int first_page = oldest / options_.page_tokens;
  auto k = gather(rows.keys, view, first_page);
  auto v = geometry_.latent
      ? mx::slice(k, {0, 0, 0, 0}, {1, k.shape(1), 1, geometry_.v_dim})
      : gather(rows.values, view, first_page);
  return kernels::reference::attention(
      q,
      k,
      v,
      {options.scale, options.softcap, geometry_.window, geometry_.chunked},
      options.sinks,
      view.offset,
      first_page * options_.page_tokens);
}

void ArrayStore::put(
    Rows& layer,
    const GroupViews& group,
    const KeysValues& rows) {
  int pages = 0;
  for (auto& view : group.views) {
    for (auto& page : view.pages->pages) {
      if (page) pages = std::max(pages, page->id + 1);
    }
  }
  grow(pages);
  auto at = places(group.views);
  auto write = [&](mx::array& all, const mx::array& x) {
    auto update = mx::reshape(
        mx::astype(x, options_.dtype), {x.shape(1), 1, x.shape(2), x.shape(3)});
    all = mx::scatter(all, at, update, 0);
  };
  write(layer.keys, rows.k);
  if (!geometry_.latent) write(layer.values, rows.v);
}

Attended ArrayStore::keep(
    int slot,
    const GroupViews& group,
    const mx::array& rows,
    const std::vector<mx::array>&) {
  auto& layer = layers_[slot];
  auto k = mx::expand_dims(rows, 2);
  put(layer, group, {k, k});
  return {layer.keys, std::nullopt};
}

mx::array ArrayStore::kept(
    int slot,
    const View& view,
    const std::vector<mx::array>&) {
  auto rows = gather(layers_[slot].keys, view, 0);
  return mx::reshape(rows, {rows.shape(1), rows.shape(3)});
}

Attended ArrayStore::attend(
    int slot,
    const GroupViews& group,
    const mx::array& q,
    const std::optional<KeysValues>& rows,
    const AttendOptions& options,
    const std::vector<mx::array>&) {
  auto& layer = layers_[slot];
  auto& views = group.views;
  if (rows) put(layer, group, *rows);
  std::vector<mx::array> outs;
  for (auto& view : views) {
    auto part = mx::slice(
        q,
        {0, view.first, 0, 0},
        {1, view.first + view.count, q.shape(2), q.shape(3)});
    outs.push_back(attend_one(layer, view, part, options));
  }
  return {outs.size() == 1 ? outs[0] : mx::concatenate(outs, 1), std::nullopt};
}

void ArrayStore::copy(const Page& from, const Page& to) {
  grow(std::max(from.id, to.id) + 1);
  int tokens = options_.page_tokens;
  auto move = [&](mx::array& rows) {
    int heads = rows.shape(1), dim = rows.shape(2);
    auto page = mx::slice(
        rows, {from.id * tokens, 0, 0}, {(from.id + 1) * tokens, heads, dim});
    mx::Shape start{to.id * tokens, 0, 0};
    mx::Shape stop{(to.id + 1) * tokens, heads, dim};
    rows = mx::slice_update(rows, page, start, stop);
  };
  for (auto& layer : layers_) {
    move(layer.keys);
    move(layer.values);
  }
}

} // namespace mlxlm::cache

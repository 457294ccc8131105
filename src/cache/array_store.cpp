// Paged keys and values in MLX arrays; see array_store.h.
#include "cache/array_store.h"

#include <mlx/ops.h>

#include <algorithm>

#include "cache/rows.h"
#include "runtime/kernels/attention/reference.h"
#include "runtime/slices.h"

namespace mlxlm::cache {

namespace reference = kernels::reference;

namespace {

// Tokens [first, last) of [1, N, H, D].
mx::array part_of(const mx::array& x, int first, int last) {
  return mx::slice(x, {0, first, 0, 0}, {1, last, x.shape(2), x.shape(3)});
}

} // namespace

ArrayStore::ArrayStore(const Group& group, const StoreOptions& options)
    : geometry_(group.geometry),
      options_(options),
      sides_{ArrayPages(options.page_tokens), ArrayPages(options.page_tokens)} {
  auto& g = geometry_;
  auto type = options.dtype;
  for (int order : group.order) {
    sides_[0].add_layer(g, type, {g, type, {}, {}}, options.keeps_energies(g));
    if (!options.packs(g)) continue;
    auto [keys, values] = options.codecs(order);
    sides_[1].add_layer(g, type, {g, type, keys, values}, false);
  }
}

std::size_t ArrayStore::packed_page_bytes() const {
  return sides_[1].page_bytes();
}

ArrayPages& ArrayStore::side(const Page& page) {
  auto& mine = sides_[page.packed];
  mine.grow(page.id + 1);
  return mine;
}

Arrays ArrayStore::page_rows(int layer, const Page& page) {
  return side(page).page(layer, page.id);
}

void ArrayStore::put_page(int layer, const Page& page, const Arrays& rows) {
  side(page).put(layer, page.id * options_.page_tokens, rows);
}

std::vector<std::byte> ArrayStore::packed_layer(int slot, const Page& page) {
  return side(page).bytes(slot, page.id);
}

bool ArrayStore::set_packed_layer(
    int slot,
    const Page& page,
    std::span<const std::byte> bytes) {
  return side(page).set_bytes(slot, page.id, bytes);
}

void ArrayStore::copy(const Page& from, const Page& to) {
  side(from);
  side(to).copy(from.id, to.id);
}

void ArrayStore::pack(
    const Page* before,
    const Page& from,
    const Page& to,
    int tokens) {
  for (int i = 0; i < sides_[0].layers(); ++i) {
    auto rows = sides_[0].coder(i).decode(page_rows(i, from), nullptr);
    put_page(i, to, sides_[1].coder(i).encode(rows));
    if (!sides_[1].coder(i).centered()) continue;
    auto keys = mx::slice(
        rows.k, {0, 0, 0}, {tokens, rows.k.shape(1), rows.k.shape(2)});
    std::optional<mx::array> energy;
    if (sides_[0].keeps_energies())
      energy = mx::squeeze(side(from).energy(i, from.id), 0);
    begin_page(i, before, to, slice_axis(keys, 0, 0, 1), energy);
    put_keys(i, to, 0, keys);
  }
}

void ArrayStore::put(
    int slot,
    const std::vector<View>& views,
    const KeysValues& rows,
    bool packed,
    const std::optional<mx::array>& q) {
  std::vector<int> tokens, places;
  int pages = 0, all = 0;
  for (auto& view : views) {
    all += view.count;
    for (int i = 0; i < view.count; ++i) {
      int at = view.offset + i;
      auto& page = view.pages->pages[at / options_.page_tokens];
      if (page->packed != packed) continue;
      tokens.push_back(view.first + i);
      places.push_back(
          page->id * options_.page_tokens + at % options_.page_tokens);
      pages = std::max(pages, page->id + 1);
    }
  }
  if (tokens.empty()) return;
  auto& mine = sides_[packed];
  mine.grow(pages);
  auto flat = [&](const mx::array& x) {
    auto y = mx::squeeze(x, 0);
    int count = int(tokens.size());
    if (count == all) return y;
    return mx::take(y, mx::array(tokens.begin(), {count}, mx::int32), 0);
  };
  auto coded = mine.coder(slot).encode({flat(rows.k), flat(rows.v)});
  auto* centered = mine.coder(slot).centered();
  mine.scatter(slot, places, coded, centered ? centered->arrays() : 0);
  if (centered || mine.keeps_energies())
    begin_pages(slot, views, mx::squeeze(rows.k, 0), packed, q);
}

void ArrayStore::gather(
    int slot,
    const View& view,
    int first,
    int last,
    Gathered& out) const {
  int tokens = options_.page_tokens, end = view.offset + view.count;
  auto& mine = sides_[view.pages->pages[first]->packed];
  std::vector<int> ids;
  for (int i = first; i < last; ++i)
    ids.push_back(view.pages->pages[i]->id);
  int rows = std::min(end, last * tokens) - first * tokens;
  auto first_rows = [&](const mx::array& x) {
    return mx::slice(x, {0, 0, 0}, {rows, x.shape(1), x.shape(2)});
  };
  auto done = mine.pages(slot, ids);
  out.keys.push_back(mx::expand_dims(first_rows(done.k), 0));
  out.values.push_back(mx::expand_dims(first_rows(done.v), 0));
  for (int i = 0; i < rows; ++i)
    out.positions.push_back(first * tokens + i);
}

ArrayStore::Gathered ArrayStore::gather(
    int slot,
    const View& view,
    int kept,
    int oldest) const {
  int tokens = options_.page_tokens;
  int pages = (view.offset + view.count + tokens - 1) / tokens;
  std::vector<int> numbers;
  for (int i = 0; i < pages; ++i)
    if (i < kept || i >= oldest) numbers.push_back(i);
  Gathered all;
  auto& list = view.pages->pages;
  for (std::size_t i = 0, end; i < numbers.size(); i = end) {
    int first = numbers[i];
    for (end = i + 1; end < numbers.size(); ++end) {
      int next = numbers[end];
      if (next != numbers[end - 1] + 1) break;
      if (list[next]->packed != list[first]->packed) break;
    }
    gather(slot, view, first, numbers[end - 1] + 1, all);
  }
  return all;
}

mx::array ArrayStore::attend_one(
    int slot,
    const View& view,
    const mx::array& q,
    const std::optional<KeysValues>& rows,
    const AttendOptions& options) const {
  kernels::AttentionShape shape{
      options.scale,
      options.softcap,
      geometry_.window,
      geometry_.chunked,
      geometry_.keep,
      view.apart};
  int tokens = options_.page_tokens;
  int oldest = shape.window_begin(view.offset, 0) / tokens;
  int kept = std::min((geometry_.keep + tokens - 1) / tokens, oldest);
  auto all = gather(slot, view, kept, oldest);
  std::optional<reference::OwnRows> own;
  if (rows && sides_[1].layers() > 0 && sides_[1].coder(slot).sees_own()) {
    auto mine = [&](const mx::array& x) {
      return part_of(x, view.first, view.first + view.count);
    };
    own = reference::OwnRows{mine(rows->k), mine(rows->v), {}};
    for (int i = 0; i < view.count; ++i)
      own->seen.push_back(
          view.pages->pages[(view.offset + i) / tokens]->packed);
  }
  return reference::attention(
      q,
      mx::concatenate(all.keys, 1),
      mx::concatenate(all.values, 1),
      shape,
      options.sinks,
      view.offset,
      all.positions,
      own);
}

Attended ArrayStore::keep(
    int slot,
    const GroupViews& group,
    const mx::array& rows,
    const std::vector<mx::array>&) {
  auto k = mx::expand_dims(rows, 2);
  put(slot, group.views, {k, k}, false);
  put(slot, group.views, {k, k}, true);
  return {sides_[sides_[1].layers() > 0].rows(slot), std::nullopt};
}

mx::array ArrayStore::kept(
    int slot,
    const View& view,
    const std::vector<mx::array>&) {
  auto rows = mx::concatenate(gather(slot, view, 0, 0).keys, 1);
  return mx::reshape(rows, {rows.shape(1), rows.shape(3)});
}

Attended ArrayStore::attend(
    int slot,
    const GroupViews& group,
    const mx::array& q,
    const std::optional<KeysValues>& rows,
    const AttendOptions& options,
    const std::vector<mx::array>&) {
  auto& views = group.views;
  if (rows) {
    put(slot, views, *rows, false, q);
    put(slot, views, *rows, true, q);
  }
  std::vector<mx::array> outs;
  for (auto& view : views) {
    auto part = part_of(q, view.first, view.first + view.count);
    outs.push_back(attend_one(slot, view, part, rows, options));
  }
  return {mx::concatenate(std::move(outs), 1), std::nullopt};
}

CacheRows ArrayStore::read(
    int slot,
    const PageList& pages,
    int first,
    int count,
    bool) {
  CacheRows out{count};
  int tokens = options_.page_tokens;
  // Page by page: gather wants pages of one kind.
  std::shared_ptr<const PageList> list(
      std::shared_ptr<const PageList>{}, &pages);
  for (int at = first; at < first + count;) {
    int page = at / tokens, end = std::min(first + count, (page + 1) * tokens);
    Gathered rows;
    gather(slot, {list, 0, 0, end}, page, page + 1, rows);
    auto append = [&](const mx::array& x, std::vector<float>& to) {
      auto part = mx::contiguous(mx::slice(
          x,
          {0, at - page * tokens, 0, 0},
          {1, end - page * tokens, x.shape(2), x.shape(3)}));
      part = mx::astype(part, mx::float32);
      part.eval();
      to.insert(to.end(), part.data<float>(), part.data<float>() + part.size());
    };
    append(rows.keys[0], out.k);
    if (!geometry_.latent) append(rows.values[0], out.v);
    at = end;
  }
  return out;
}

void ArrayStore::write(
    int slot,
    const std::shared_ptr<const PageList>& pages,
    int first,
    const CacheRows& rows) {
  auto& g = geometry_;
  auto plain = decoded(rows, g);
  if (rows.count == 0) return;
  mx::array k(
      plain.k.data(), {1, rows.count, g.kv_heads, g.k_dim}, mx::float32);
  auto v = g.latent
      ? k
      : mx::array(
            plain.v.data(), {1, rows.count, g.kv_heads, g.v_dim}, mx::float32);
  std::vector<View> views{{pages, 0, rows.count, first}};
  put(slot, views, {k, v}, false);
  put(slot, views, {k, v}, true);
}

} // namespace mlxlm::cache

// Paged keys and values in MLX arrays; see array_store.h.
#include "cache/array_store.h"

#include <mlx/ops.h>

#include <algorithm>

#include "cache/rows.h"

namespace mlxlm::cache {

namespace {

namespace reference = kernels::reference;

mx::array index_array(const std::vector<int>& x) {
  return mx::array(x.begin(), mx::Shape{int(x.size())}, mx::int32);
}

mx::array joined(const std::vector<mx::array>& parts, int axis) {
  return parts.size() == 1 ? parts[0] : mx::concatenate(parts, axis);
}

mx::array columns(const mx::array& x, int begin, int count) {
  if (begin == 0 && x.shape(-1) == count) return x;
  auto start = mx::Shape(x.ndim(), 0), stop = x.shape();
  start.back() = begin;
  stop.back() = begin + count;
  return mx::slice(x, start, stop);
}

} // namespace

ArrayStore::Coder::Coder(
    const Geometry& g,
    mx::Dtype type,
    const kernels::RowCodec& keys,
    const kernels::RowCodec& values)
    : v_dim_(g.v_dim) {
  auto part = [&](auto& codec, int begin, int dim, std::uint32_t seed) {
    return Part{begin, dim, {codec, dim, type, seed}};
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

ArrayStore::Arrays ArrayStore::Coder::encode(const KeysValues& rows) const {
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

KeysValues ArrayStore::Coder::decode(const Arrays& coded) const {
  auto at = coded.begin();
  auto all = [&](const std::vector<Part>& list) {
    Arrays out;
    for (auto& part : list) {
      auto end = at + part.coder.arrays();
      out.push_back(part.coder.decode({at, end}));
      at = end;
    }
    return joined(out, -1);
  };
  auto k = all(keys_);
  if (values_.empty()) return {k, columns(k, 0, v_dim_)};
  return {k, all(values_)};
}

ArrayStore::ArrayStore(const Group& group, const StoreOptions& options)
    : geometry_(group.geometry), options_(options) {
  auto& g = geometry_;
  auto blank = [&](const Coder& coder) {
    auto zeros = [&](int dim) {
      return mx::zeros({1, g.kv_heads, dim}, options_.dtype);
    };
    Arrays out;
    for (auto& x : coder.encode({zeros(g.k_dim), zeros(g.v_dim)})) {
      out.push_back(mx::zeros({0, g.kv_heads, x.shape(-1)}, x.dtype()));
    }
    return out;
  };
  for (int order : group.order) {
    sides_[0].coders.emplace_back(
        g, options.dtype, kernels::RowCodec{}, kernels::RowCodec{});
    sides_[0].layers.push_back(blank(sides_[0].coders.back()));
    if (!options.packs(g)) continue;
    auto [keys, values] = options.codecs(order);
    sides_[1].coders.emplace_back(g, options.dtype, keys, values);
    sides_[1].layers.push_back(blank(sides_[1].coders.back()));
  }
}

std::size_t ArrayStore::packed_page_bytes() const {
  std::size_t bytes = 0;
  for (auto& layer : sides_[1].layers) {
    for (auto& x : layer)
      bytes += std::size_t(x.shape(1)) * x.shape(2) * x.itemsize();
  }
  return bytes * options_.page_tokens;
}

void ArrayStore::grow(Side& side, int pages) const {
  if (pages <= side.capacity) return;
  int next = std::max({pages, 2 * side.capacity, 8});
  int more = (next - side.capacity) * options_.page_tokens;
  for (auto& layer : side.layers) {
    for (auto& x : layer) {
      auto zeros = mx::zeros({more, x.shape(1), x.shape(2)}, x.dtype());
      x = mx::concatenate({x, zeros}, 0);
    }
  }
  side.capacity = next;
}

// Keeps those of the pass' rows that lie in packed or in plain pages.
void ArrayStore::put(
    int slot,
    const std::vector<View>& views,
    const KeysValues& rows,
    bool packed) {
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
  grow(mine, pages);
  auto flat = [&](const mx::array& x) {
    auto y = mx::squeeze(x, 0);
    return int(tokens.size()) == all ? y : mx::take(y, index_array(tokens), 0);
  };
  auto coded = mine.coders[slot].encode({flat(rows.k), flat(rows.v)});
  for (std::size_t i = 0; i < coded.size(); ++i) {
    auto& x = mine.layers[slot][i];
    x = mx::scatter(x, index_array(places), mx::expand_dims(coded[i], 1), 0);
  }
}

// Appends rows of pages [first, last) of the view, all of one kind.
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
  Arrays coded;
  for (auto& x : mine.layers[slot]) {
    int heads = x.shape(1), width = x.shape(2), pages = int(ids.size());
    auto paged = mx::reshape(x, {mine.capacity, tokens, heads, width});
    auto taken = mx::reshape(
        mx::take(paged, index_array(ids), 0), {pages * tokens, heads, width});
    coded.push_back(mx::slice(taken, {0, 0, 0}, {rows, heads, width}));
  }
  auto done = mine.coders[slot].decode(coded);
  out.keys.push_back(mx::expand_dims(done.k, 0));
  out.values.push_back(mx::expand_dims(done.v, 0));
  for (int i = 0; i < rows; ++i)
    out.positions.push_back(first * tokens + i);
}

// Rows of the first `kept` pages and from page `oldest` on.
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
  return reference::attention(
      q,
      joined(all.keys, 1),
      joined(all.values, 1),
      shape,
      options.sinks,
      view.offset,
      all.positions);
}

Attended ArrayStore::keep(
    int slot,
    const GroupViews& group,
    const mx::array& rows,
    const std::vector<mx::array>&) {
  auto k = mx::expand_dims(rows, 2);
  put(slot, group.views, {k, k}, false);
  put(slot, group.views, {k, k}, true);
  auto& mine = sides_[!sides_[1].layers.empty()];
  return {mine.layers[slot][0], std::nullopt};
}

mx::array ArrayStore::kept(
    int slot,
    const View& view,
    const std::vector<mx::array>&) {
  auto rows = joined(gather(slot, view, 0, 0).keys, 1);
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
    put(slot, views, *rows, false);
    put(slot, views, *rows, true);
  }
  std::vector<mx::array> outs;
  for (auto& view : views) {
    auto part = mx::slice(
        q,
        {0, view.first, 0, 0},
        {1, view.first + view.count, q.shape(2), q.shape(3)});
    outs.push_back(attend_one(slot, view, part, options));
  }
  return {joined(outs, 1), std::nullopt};
}

ArrayStore::Arrays ArrayStore::page_rows(int layer, const Page& page) {
  grow(side(page), page.id + 1);
  int tokens = options_.page_tokens;
  Arrays out;
  for (auto& x : side(page).layers[layer]) {
    out.push_back(mx::slice(
        x,
        {page.id * tokens, 0, 0},
        {(page.id + 1) * tokens, x.shape(1), x.shape(2)}));
  }
  return out;
}

void ArrayStore::put_page(int layer, const Page& page, const Arrays& rows) {
  grow(side(page), page.id + 1);
  int tokens = options_.page_tokens;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto& x = side(page).layers[layer][i];
    mx::Shape start{page.id * tokens, 0, 0};
    mx::Shape stop{(page.id + 1) * tokens, x.shape(1), x.shape(2)};
    x = mx::slice_update(x, rows[i], start, stop);
  }
}

void ArrayStore::copy(const Page& from, const Page& to) {
  for (int i = 0; i < int(side(from).layers.size()); ++i)
    put_page(i, to, page_rows(i, from));
}

void ArrayStore::pack(const Page& from, const Page& to, int) {
  for (int i = 0; i < int(sides_[0].layers.size()); ++i) {
    auto rows = sides_[0].coders[i].decode(page_rows(i, from));
    put_page(i, to, sides_[1].coders[i].encode(rows));
  }
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

// Paged keys and values in MLX arrays; see array_store.h.
#include "cache/array_store.h"

#include <mlx/ops.h>

#include <algorithm>

#include "cache/rows.h"
#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"

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

mx::array one_page(const mx::array& x, int page) {
  auto stop = mx::Shape{page + 1, x.shape(1), x.shape(2)};
  return mx::slice(x, {page, 0, 0}, stop);
}

// Tokens [first, last) of [1, N, H, D].
mx::array part_of(const mx::array& x, int first, int last) {
  return mx::slice(x, {0, first, 0, 0}, {1, last, x.shape(2), x.shape(3)});
}

mx::array first_row(const mx::array& x) {
  return mx::slice(x, {0, 0, 0}, {1, x.shape(1), x.shape(2)});
}

mx::array with_page(const mx::array& x, int page, const mx::array& value) {
  auto stop = mx::Shape{page + 1, x.shape(1), x.shape(2)};
  return mx::slice_update(
      x, mx::astype(value, x.dtype()), {page, 0, 0}, std::move(stop));
}

} // namespace

ArrayStore::Coder::Coder(
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

bool ArrayStore::Coder::sees_own() const {
  return !values_.empty() && (keys_[0].turbo || values_[0].turbo);
}

const reference::RowCoder* ArrayStore::Coder::centered() const {
  bool are = !values_.empty() && keys_[0].turbo;
  return are ? &keys_[0].coder : nullptr;
}

KeysValues ArrayStore::Coder::decode(
    const Arrays& coded,
    const PageHeads& heads) const {
  auto at = coded.begin();
  auto all = [&](const std::vector<Part>& list) {
    if (auto* coder = centered(); coder && &list == &keys_) {
      at += coder->arrays();
      return reference::centered_keys(*coder, {coded.begin(), at}, heads);
    }
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
    mx::Shape none{0, g.kv_heads, g.k_dim};
    if (options.keeps_energies(g))
      sides_[0].energies.push_back(mx::zeros(none, mx::float32));
    if (!options.packs(g)) continue;
    auto [keys, values] = options.codecs(order);
    sides_[1].coders.emplace_back(g, options.dtype, keys, values);
    sides_[1].layers.push_back(blank(sides_[1].coders.back()));
    sides_[1].heads.push_back(
        {mx::zeros(none, mx::float16), mx::zeros(none, mx::int8)});
  }
}

std::size_t ArrayStore::packed_page_bytes() const {
  std::size_t bytes = 0;
  for (auto& layer : sides_[1].layers) {
    for (auto& x : layer)
      bytes += std::size_t(x.shape(1)) * x.shape(2) * x.itemsize();
  }
  bytes *= options_.page_tokens;
  for (std::size_t i = 0; i < sides_[1].layers.size(); ++i) {
    auto& x = sides_[1].heads[i].center;
    constexpr std::size_t each = 3; // a half and a byte a dimension
    if (sides_[1].coders[i].centered()) bytes += each * x.shape(1) * x.shape(2);
  }
  return bytes;
}

void ArrayStore::grow(Side& side, int pages) const {
  if (pages <= side.capacity) return;
  int next = std::max({pages, 2 * side.capacity, 8});
  int more = next - side.capacity;
  auto longer = [](mx::array& x, int rows) {
    auto zeros = mx::zeros({rows, x.shape(1), x.shape(2)}, x.dtype());
    x = mx::concatenate({x, zeros}, 0);
  };
  for (auto& layer : side.layers) {
    for (auto& x : layer)
      longer(x, more * options_.page_tokens);
  }
  for (auto& x : side.heads) {
    longer(x.center, more);
    longer(x.stretch, more);
  }
  for (auto& x : side.energies)
    longer(x, more);
  side.capacity = next;
}

// Keeps those of the pass' rows that lie in packed or in plain pages.
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
  grow(mine, pages);
  auto flat = [&](const mx::array& x) {
    auto y = mx::squeeze(x, 0);
    return int(tokens.size()) == all ? y : mx::take(y, index_array(tokens), 0);
  };
  auto coded = mine.coders[slot].encode({flat(rows.k), flat(rows.v)});
  auto* centered = mine.coders[slot].centered();
  for (std::size_t i = centered ? centered->arrays() : 0; i < coded.size();
       ++i) {
    auto& x = mine.layers[slot][i];
    x = mx::scatter(x, index_array(places), mx::expand_dims(coded[i], 1), 0);
  }
  if (!centered && mine.energies.empty()) return;
  int size = options_.page_tokens;
  for (auto& view : views) {
    auto& pages = view.pages->pages;
    for (int at = view.offset, end; at < view.offset + view.count; at = end) {
      int number = at / size;
      end = std::min(view.offset + view.count, (number + 1) * size);
      if (pages[number]->packed != packed) continue;
      int first = view.first + at - view.offset;
      bool begins = at % size == 0;
      std::optional<mx::array> energy;
      if (begins && q && kernels::measures_stretch(number))
        energy = reference::query_energy(*q, first, rows.k.shape(2));
      if (!packed) {
        if (begins) keep_energy(slot, *pages[number], energy);
        continue;
      }
      auto keys = mx::slice(
          mx::squeeze(rows.k, 0),
          {first, 0, 0},
          {first + end - at, rows.k.shape(2), rows.k.shape(3)});
      if (begins) {
        auto* before = number > 0 ? pages[number - 1].get() : nullptr;
        begin_page(slot, before, *pages[number], first_row(keys), energy);
      }
      put_keys(slot, *pages[number], at % size, keys);
    }
  }
}

ArrayStore::PageHeads ArrayStore::heads_of(int slot, const Page& page) {
  auto& all = side(page).heads[slot];
  return {one_page(all.center, page.id), one_page(all.stretch, page.id)};
}

mx::array ArrayStore::center_behind(int slot, const Page& page) {
  auto& coder = *side(page).coders[slot].centered();
  auto rows = page_rows(slot, page);
  rows.erase(rows.begin() + coder.arrays(), rows.end());
  auto first = mx::astype(heads_of(slot, page).center, mx::float32);
  auto moved = mx::sum(coder.codebook_part(rows), 0, true);
  return first + mx::array(kernels::center_step) * moved;
}

void ArrayStore::keep_energy(
    int slot,
    const Page& page,
    const std::optional<mx::array>& query_energy) {
  auto& all = side(page).energies[slot];
  mx::Shape shape{1, all.shape(1), all.shape(2)};
  auto unknown = mx::full(shape, -1.0f); // see moved_stretch
  all = with_page(all, page.id, query_energy.value_or(unknown));
}

void ArrayStore::begin_page(
    int slot,
    const Page* before,
    const Page& page,
    const mx::array& first_key,
    const std::optional<mx::array>& query_energy) {
  grow(side(page), page.id + 1);
  auto& mine = side(page).heads[slot];
  auto& coder = *side(page).coders[slot].centered();
  mx::Shape shape{1, mine.center.shape(1), mine.center.shape(2)};
  auto stretch = mx::zeros(shape, mx::int8);
  auto center = mx::astype(first_key, mx::float32);
  if (before) {
    // What that page tells, neither stretched nor rotated.
    auto rows = page_rows(slot, *before);
    auto energy = center;
    if (before->packed) {
      stretch = heads_of(slot, *before).stretch;
      auto by = reference::stretch_factors(stretch);
      center = coder.turned_back(center_behind(slot, *before)) / by;
      rows.erase(rows.begin() + coder.arrays(), rows.end());
      auto off = coder.turned_back(coder.codebook_part(rows)) / by;
      energy = mx::mean(mx::square(off), 0);
    } else {
      auto& plain = sides_[0].coders[slot];
      auto keys = plain.decode(rows, mine).k;
      center = mx::mean(keys, 0, true);
      energy = mx::mean(mx::square(keys - center), 0);
    }
    if (query_energy)
      stretch = reference::moved_stretch(*query_energy, energy, stretch);
    center = center * reference::stretch_factors(stretch);
  }
  center = coder.rotated(center);
  auto most = mx::array(65504.0f);
  center = mx::clip(center, mx::negative(most), most);
  mine.center = with_page(mine.center, page.id, center);
  mine.stretch = with_page(mine.stretch, page.id, stretch);
}

void ArrayStore::put_keys(
    int slot,
    const Page& page,
    int token,
    const mx::array& keys) {
  auto& mine = side(page);
  auto& coder = *mine.coders[slot].centered();
  int tokens = options_.page_tokens;
  auto by = reference::stretch_factors(heads_of(slot, page).stretch);
  Arrays before;
  for (int i = 0; token > 0 && i < coder.arrays(); ++i) {
    auto& x = mine.layers[slot][i];
    int row = page.id * tokens;
    before.push_back(
        mx::slice(x, {row, 0, 0}, {row + token, x.shape(1), x.shape(2)}));
  }
  auto first = mx::astype(heads_of(slot, page).center, mx::float32);
  auto coded = reference::encode_centered(
      coder, coder.rotated(keys * by), token, before, first);
  for (std::size_t i = 0; i < coded.size(); ++i) {
    auto& x = mine.layers[slot][i];
    int row = page.id * tokens + token;
    x = mx::slice_update(
        x,
        coded[i],
        mx::Shape{row, 0, 0},
        mx::Shape{row + keys.shape(0), x.shape(1), x.shape(2)});
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
  auto first_rows = [&](const mx::array& x) {
    return mx::slice(x, {0, 0, 0}, {rows, x.shape(1), x.shape(2)});
  };
  Arrays coded;
  for (auto& x : mine.layers[slot]) {
    int heads = x.shape(1), width = x.shape(2), pages = int(ids.size());
    auto paged = mx::reshape(x, {mine.capacity, tokens, heads, width});
    coded.push_back(mx::reshape(
        mx::take(paged, index_array(ids), 0), {pages * tokens, heads, width}));
  }
  PageHeads heads{mx::array(0.0f), mx::array(0.0f)};
  if (mine.coders[slot].centered()) {
    auto& all = mine.heads[slot];
    heads = {
        mx::take(all.center, index_array(ids), 0),
        mx::take(all.stretch, index_array(ids), 0)};
  }
  auto done = mine.coders[slot].decode(coded, heads);
  out.keys.push_back(mx::expand_dims(first_rows(done.k), 0));
  out.values.push_back(mx::expand_dims(first_rows(done.v), 0));
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
  if (rows && !sides_[1].coders.empty() && sides_[1].coders[slot].sees_own()) {
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
      joined(all.keys, 1),
      joined(all.values, 1),
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
    put(slot, views, *rows, false, q);
    put(slot, views, *rows, true, q);
  }
  std::vector<mx::array> outs;
  for (auto& view : views) {
    auto part = part_of(q, view.first, view.first + view.count);
    outs.push_back(attend_one(slot, view, part, rows, options));
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

// The arrays of its rows and of its head, one behind the other.
std::vector<std::byte> ArrayStore::packed_layer(int slot, const Page& page) {
  auto arrays = page_rows(slot, page);
  auto head = heads_of(slot, page);
  arrays.insert(arrays.end(), {head.center, head.stretch});
  std::vector<std::byte> out;
  for (auto x : arrays) {
    x = mx::contiguous(x);
    x.eval();
    auto* begin = x.data<std::byte>();
    out.insert(out.end(), begin, begin + x.nbytes());
  }
  return out;
}

bool ArrayStore::set_packed_layer(
    int slot,
    const Page& page,
    std::span<const std::byte> bytes) {
  auto rows = page_rows(slot, page);
  auto head = heads_of(slot, page);
  std::vector<mx::array*> parts{&head.center, &head.stretch};
  for (std::size_t i = rows.size(); i > 0; --i)
    parts.insert(parts.begin(), &rows[i - 1]);
  std::size_t wanted = 0;
  for (auto* x : parts)
    wanted += x->nbytes();
  if (bytes.size() != wanted) return false;
  for (auto* x : parts) {
    auto part = bytes.first(x->nbytes());
    mx::array raw(
        reinterpret_cast<const std::uint8_t*>(part.data()),
        {int(part.size())},
        mx::uint8);
    *x = mx::reshape(mx::view(raw, x->dtype()), x->shape());
    bytes = bytes.subspan(part.size());
  }
  put_page(slot, page, rows);
  auto& heads = side(page).heads[slot];
  heads.center = with_page(heads.center, page.id, head.center);
  heads.stretch = with_page(heads.stretch, page.id, head.stretch);
  return true;
}

void ArrayStore::copy(const Page& from, const Page& to) {
  for (int i = 0; i < int(side(from).layers.size()); ++i)
    put_page(i, to, page_rows(i, from));
  for (auto& x : side(from).heads) {
    x.center = with_page(x.center, to.id, one_page(x.center, from.id));
    x.stretch = with_page(x.stretch, to.id, one_page(x.stretch, from.id));
  }
  for (auto& x : side(from).energies)
    x = with_page(x, to.id, one_page(x, from.id));
}

void ArrayStore::pack(
    const Page* before,
    const Page& from,
    const Page& to,
    int tokens) {
  for (int i = 0; i < int(sides_[0].layers.size()); ++i) {
    auto rows =
        sides_[0].coders[i].decode(page_rows(i, from), sides_[1].heads[i]);
    put_page(i, to, sides_[1].coders[i].encode(rows));
    if (!sides_[1].coders[i].centered()) continue;
    auto keys = mx::slice(
        rows.k, {0, 0, 0}, {tokens, rows.k.shape(1), rows.k.shape(2)});
    std::optional<mx::array> energy;
    if (auto& all = side(from).energies; !all.empty())
      energy = mx::squeeze(one_page(all[i], from.id), 0);
    begin_page(i, before, to, first_row(keys), energy);
    put_keys(i, to, 0, keys);
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

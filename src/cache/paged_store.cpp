// Hands pages to the CPU's attention; see paged_store.h.
#include "cache/paged_store.h"

#include <cstring>

#include "cache/rows.h"
#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/query_energy.h"
#include "runtime/threads.h"

namespace mlxlm::cache {

namespace {

kernels::PageLayout layout_of(const Group& group, const StoreOptions& options) {
  auto& g = group.geometry;
  return {
      *kernels::float_type(options.dtype),
      g.kv_heads,
      g.k_dim,
      g.v_dim,
      options.page_tokens,
      g.latent,
      options.keeps_energies(g)};
}

std::vector<PackedLayer> packed_layers(
    const Group& group,
    const StoreOptions& options) {
  auto plain = layout_of(group, options);
  std::vector<PackedLayer> out;
  std::optional<std::pair<kernels::RowCodec, kernels::RowCodec>> before;
  std::shared_ptr<const kernels::PackedLayout> layout;
  std::size_t offset = 0;
  for (int order : group.order) {
    auto codecs = options.codecs(order);
    if (before != codecs) {
      layout = std::make_shared<const kernels::PackedLayout>(
          plain.type,
          plain.kv_heads,
          plain.k_dim,
          plain.v_dim,
          plain.tokens,
          plain.latent,
          codecs.first,
          codecs.second);
    }
    before = codecs;
    out.push_back({layout, offset});
    offset += layout->layer_bytes();
  }
  return out;
}

kernels::AffineRow affine_row(
    CacheRows::Codes& all,
    std::size_t row,
    int dim,
    int group) {
  auto at = row * dim;
  return {
      all.codes.data() + at,
      all.scales.data() + at / group,
      all.biases.data() + at / group};
}

std::size_t bytes_of(const std::vector<PackedLayer>& layers) {
  if (layers.empty()) return 0;
  return layers.back().offset + layers.back().layout->layer_bytes();
}

} // namespace

PagedStore::PagedStore(const Group& group, const StoreOptions& options)
    : layout_(layout_of(group, options)),
      window_(group.geometry.window),
      chunked_(group.geometry.chunked),
      keep_(group.geometry.keep),
      page_bytes_(layout_.layer_bytes() * group.layers) {
  if (!options.packs(group.geometry)) return;
  packed_ = packed_layers(group, options);
  packed_bytes_ = bytes_of(packed_);
}

std::size_t packed_page_bytes(const Group& group, const StoreOptions& options) {
  return bytes_of(packed_layers(group, options));
}

Attended PagedStore::attend(
    int slot,
    const GroupViews& views,
    const mx::array& q,
    const std::optional<KeysValues>& rows,
    const AttendOptions& options,
    const std::vector<mx::array>& after) {
  kernels::PagedAttention op{
      layout_,
      slot * layout_.layer_bytes(),
      {options.scale, options.softcap, window_, chunked_, keep_},
      views.segments};
  if (!packed_.empty()) {
    op.packed = packed_[slot].layout;
    op.packed_offset = packed_[slot].offset;
  }
  std::optional<std::pair<mx::array, mx::array>> stored;
  if (rows) stored = {rows->k, rows->v};
  auto result =
      kernels::paged_attention(std::move(op), q, stored, options.sinks, after);
  std::optional<mx::array> written;
  if (rows) written = result.written;
  return {result.out, written};
}

kernels::PagedRows PagedStore::rows_of(
    int slot,
    std::vector<kernels::PagedSegment> segments) const {
  kernels::PagedRows op{
      layout_, slot * layout_.layer_bytes(), std::move(segments)};
  if (!packed_.empty()) {
    op.packed = packed_[slot].layout;
    op.packed_offset = packed_[slot].offset;
  }
  return op;
}

Attended PagedStore::keep(
    int slot,
    const GroupViews& views,
    const mx::array& rows,
    const std::vector<mx::array>& after) {
  auto written =
      kernels::keep_rows(rows_of(slot, *views.segments), rows, after);
  return {written, written};
}

mx::array PagedStore::kept(
    int slot,
    const View& view,
    const std::vector<mx::array>& after) {
  return kernels::read_rows(rows_of(slot, *GroupViews({view}).segments), after);
}

void PagedStore::copy(const Page& from, const Page& to) {
  std::memcpy(to.data, from.data, to.packed ? packed_bytes_ : page_bytes_);
}

void PagedStore::begin_page(
    int slot,
    const Page* before,
    std::byte* page,
    int head,
    const float* key,
    const float* query_energy) {
  auto& [layout, offset] = packed_[slot];
  kernels::PageBefore place;
  if (before && before->packed)
    place.packed = before->data + offset;
  else if (before)
    place = {nullptr, before->data + slot * layout_.layer_bytes(), &layout_};
  kernels::begin_page(*layout, page + offset, head, place, key, query_energy);
}

void PagedStore::pack(
    const Page* before,
    const Page& from,
    const Page& to,
    int tokens) {
  int heads = layout_.kv_heads;
  auto one = [&](int i) {
    int slot = i / heads, head = i % heads;
    std::vector<float> row(2 * layout_.k_dim + layout_.v_dim);
    auto *k = row.data(), *v = k + layout_.k_dim, *q = v + layout_.v_dim;
    auto& packed = packed_[slot];
    auto* layer = from.data + slot * layout_.layer_bytes();
    bool known = kernels::kept_query_energy(layout_, layer, head, q);
    for (int t = 0; t < tokens; ++t) {
      kernels::load_row(layout_, layer, head, t, k, v);
      if (t == 0)
        begin_page(slot, before, to.data, head, k, known ? q : nullptr);
      kernels::store_packed_row(
          *packed.layout, to.data + packed.offset, head, t, k, v);
    }
  };
  parallel_for(int(packed_.size()) * heads, one);
}

std::vector<std::byte> PagedStore::packed_layer(int slot, const Page& page) {
  auto& [layout, offset] = packed_[slot];
  auto* begin = page.data + offset;
  return {begin, begin + layout->layer_bytes()};
}

bool PagedStore::set_packed_layer(
    int slot,
    const Page& page,
    std::span<const std::byte> bytes) {
  auto& [layout, offset] = packed_[slot];
  if (bytes.size() != layout->layer_bytes()) return false;
  std::memcpy(page.data + offset, bytes.data(), bytes.size());
  return true;
}

// Rows to be read into: codes where all pages hold such and they are asked for.
CacheRows PagedStore::blank_rows(
    int slot,
    const PageList& pages,
    int first,
    int count,
    bool codes) const {
  int k_dim = layout_.k_dim, v_dim = layout_.v_dim;
  auto rows = std::size_t(count) * layout_.kv_heads;
  CacheRows out{count};
  bool packed = count > 0;
  for (int i = first; i < first + count; ++i)
    packed = packed && pages.packed[i / layout_.tokens];
  if (codes && packed) {
    auto& part = packed_[slot].layout->keys[0];
    if (holds_affine(*packed_[slot].layout, part.bits, part.group)) {
      out.bits = part.bits;
      out.group = part.group;
    }
  }
  auto size = [&](CacheRows::Codes& x, int dim) {
    x.codes.resize(rows * dim);
    x.scales.resize(rows * dim / out.group);
    x.biases = x.scales;
  };
  if (out.bits) {
    size(out.k_codes, k_dim);
    size(out.v_codes, v_dim);
  } else {
    out.k.resize(rows * k_dim);
    if (!layout_.latent) out.v.resize(rows * v_dim);
  }
  return out;
}

CacheRows PagedStore::read(
    int slot,
    const PageList& pages,
    int first,
    int count,
    bool codes) {
  int heads = layout_.kv_heads, k_dim = layout_.k_dim, v_dim = layout_.v_dim;
  auto rows = std::size_t(count) * heads;
  auto out = blank_rows(slot, pages, first, count, codes);
  for (std::size_t r = 0; r < rows; ++r) {
    int at = first + int(r) / heads, head = int(r) % heads;
    int page = at / layout_.tokens, token = at % layout_.tokens;
    auto* data = pages.data[page];
    auto *k = out.k.data() + r * k_dim, *v = out.v.data() + r * v_dim;
    if (!pages.packed[page]) {
      auto* layer = data + slot * layout_.layer_bytes();
      kernels::load_row(layout_, layer, head, token, k, v);
      continue;
    }
    auto& [layout, offset] = packed_[slot];
    if (out.bits) {
      kernels::load_affine_row(
          *layout,
          data + offset,
          head,
          token,
          affine_row(out.k_codes, r, k_dim, out.group),
          affine_row(out.v_codes, r, v_dim, out.group));
    } else {
      kernels::load_packed_row(*layout, data + offset, head, token, k, v);
    }
  }
  return out;
}

// Number `i` of the rows written: a head of token first + i / heads.
void PagedStore::write_row(
    int slot,
    const PageList& pages,
    int first,
    const Written& rows,
    int i,
    float* scratch) {
  int heads = layout_.kv_heads, k_dim = layout_.k_dim, v_dim = layout_.v_dim;
  int at = first + i / heads, head = i % heads;
  int page = at / layout_.tokens, token = at % layout_.tokens;
  auto* data = pages.data[page];
  const auto* k = rows.plain.k.data() + std::size_t(i) * k_dim;
  const auto* v =
      layout_.latent ? k : rows.plain.v.data() + std::size_t(i) * v_dim;
  if (!pages.packed[page]) {
    auto* layer = data + slot * layout_.layer_bytes();
    constexpr auto f32 = kernels::FloatType::f32;
    if (token == 0) kernels::keep_query_energy(layout_, layer, head, nullptr);
    kernels::store_row(layout_, layer, head, token, f32, k, v, scratch);
    return;
  }
  auto& [layout, offset] = packed_[slot];
  if (token == 0) {
    auto* before = page > 0 ? pages.pages[page - 1].get() : nullptr;
    begin_page(slot, before, data, head, k, nullptr);
  }
  auto& codes = rows.codes;
  if (codes.bits && holds_affine(*layout, codes.bits, codes.group)) {
    kernels::store_affine_row(
        *layout,
        data + offset,
        head,
        token,
        affine_row(codes.k_codes, i, k_dim, codes.group),
        affine_row(codes.v_codes, i, v_dim, codes.group));
  } else {
    kernels::store_packed_row(*layout, data + offset, head, token, k, v);
  }
}

void PagedStore::write(
    int slot,
    const std::shared_ptr<const PageList>& pages,
    int first,
    const CacheRows& rows) {
  int heads = layout_.kv_heads;
  Geometry shape{heads, layout_.k_dim, layout_.v_dim, 0, layout_.latent};
  check_rows(rows, shape);
  CacheRows codes, made;
  if (rows.bits > 0) {
    codes = rows;
    made = decoded(rows, shape);
  }
  Written written{codes, rows.bits > 0 ? made : rows};
  parallel_for(heads, [&](int head) {
    std::vector<float> scratch(layout_.k_dim + layout_.v_dim);
    for (int i = head; i < rows.count * heads; i += heads)
      write_row(slot, *pages, first, written, i, scratch.data());
  });
}

} // namespace mlxlm::cache

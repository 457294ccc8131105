// Hands pages to the CPU's attention; see paged_store.h.
#include "cache/paged_store.h"

#include <cstring>

#include "runtime/kernels/attention/paged_rows.h"
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
      g.latent};
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
  if (!options.storage.packs()) return;
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

Attended PagedStore::keep(
    int slot,
    const GroupViews& views,
    const mx::array& rows,
    const std::vector<mx::array>& after) {
  auto written = kernels::keep_rows(
      {layout_, slot * layout_.layer_bytes(), *views.segments}, rows, after);
  return {written, written};
}

mx::array PagedStore::kept(
    int slot,
    const View& view,
    const std::vector<mx::array>& after) {
  return kernels::read_rows(
      {layout_, slot * layout_.layer_bytes(), *GroupViews({view}).segments},
      after);
}

void PagedStore::copy(const Page& from, const Page& to) {
  std::memcpy(to.data, from.data, to.packed ? packed_bytes_ : page_bytes_);
}

void PagedStore::pack(const Page& from, const Page& to, int tokens) {
  int heads = layout_.kv_heads;
  auto one = [&](int i) {
    int slot = i / heads, head = i % heads;
    std::vector<float> row(layout_.k_dim + layout_.v_dim);
    auto *k = row.data(), *v = k + layout_.k_dim;
    auto& packed = packed_[slot];
    for (int t = 0; t < tokens; ++t) {
      auto* layer = from.data + slot * layout_.layer_bytes();
      kernels::load_row(layout_, layer, head, t, k, v);
      kernels::store_packed_row(
          *packed.layout, to.data + packed.offset, head, t, k, v);
    }
  };
  parallel_for(int(packed_.size()) * heads, one);
}

} // namespace mlxlm::cache

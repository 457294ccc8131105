// The one choice of storage by device.
#include "cache/store.h"

#include <algorithm>
#include <utility>

#include "cache/array_store.h"
#include "cache/paged_store.h"
#include "runtime/kernels/primitive.h"

namespace mlxlm::cache {

bool raw_pages(const MemoryOptions& options) {
  return kernels::on_cpu() && !options.arrays &&
      kernels::float_type(options.dtype);
}

GroupViews::GroupViews(std::vector<View> list)
    : views(std::move(list)),
      segments(std::make_shared<std::vector<kernels::PagedSegment>>()) {
  for (auto& view : views) {
    // Owns the pages through the list.
    std::shared_ptr<const std::vector<std::byte*>> data(
        view.pages, &view.pages->data);
    std::shared_ptr<const std::vector<std::uint8_t>> packed(
        view.pages, &view.pages->packed);
    segments->push_back(
        {std::move(data),
         view.first,
         view.count,
         view.offset,
         packed,
         view.apart});
  }
}

bool StoreOptions::keeps_energies(const Geometry& g) const {
  bool centers = storage.keys.kind == kernels::RowCodec::Kind::turbo;
  return packs(g) && !g.latent && centers && storage.start > 0;
}

std::size_t StoreOptions::page_bytes(const Group& group) const {
  auto& g = group.geometry;
  auto bytes = g.bytes_per_token(dtype) * page_tokens;
  if (keeps_energies(g))
    bytes += kernels::PageLayout::energy_bytes(g.kv_heads, g.k_dim);
  return bytes * group.layers;
}

std::pair<kernels::RowCodec, kernels::RowCodec> StoreOptions::codecs(
    int order) const {
  using Kind = kernels::RowCodec::Kind;
  int edges = std::min(storage.edge_layers, edge_of / 2);
  if (order >= edges && order < edge_of - edges)
    return {storage.keys, storage.values};
  auto edge = [](const kernels::RowCodec& codec) {
    bool fine = codec.kind == Kind::floats ||
        (codec.kind == Kind::affine && codec.bits == 8);
    return fine ? codec : kernels::RowCodec{Kind::affine, 8};
  };
  return {edge(storage.keys), edge(storage.values)};
}

std::unique_ptr<KvStore> make_store(
    const Group& group,
    const StoreOptions& options) {
  if (options.raw) return std::make_unique<PagedStore>(group, options);
  return std::make_unique<ArrayStore>(group, options);
}

} // namespace mlxlm::cache

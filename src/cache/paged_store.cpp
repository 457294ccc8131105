// Hands pages to the CPU's attention; see paged_store.h.
#include "cache/paged_store.h"

#include <cstring>

#include "runtime/kernels/attention/paged_rows.h"

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

} // namespace

PagedStore::PagedStore(const Group& group, const StoreOptions& options)
    : layout_(layout_of(group, options)),
      window_(group.geometry.window),
      chunked_(group.geometry.chunked),
      page_bytes_(layout_.layer_bytes() * group.layers) {}

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
      {options.scale, options.softcap, window_, chunked_},
      views.segments};
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
  std::memcpy(to.data, from.data, page_bytes_);
}

} // namespace mlxlm::cache

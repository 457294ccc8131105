// The array store's packed pages whose keys are differences from a center that
// moves (key_center.h), in plain MLX operations.
#include <mlx/ops.h>

#include <algorithm>

#include "cache/array_store.h"
#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/slices.h"

namespace mlxlm::cache {

namespace reference = kernels::reference;

void ArrayStore::begin_pages(
    int slot,
    const std::vector<View>& views,
    const mx::array& keys,
    bool packed,
    const std::optional<mx::array>& q) {
  int size = options_.page_tokens;
  for (auto& view : views) {
    auto& pages = view.pages->pages;
    for (int at = view.offset, end; at < view.offset + view.count; at = end) {
      int number = at / size;
      end = std::min(view.offset + view.count, (number + 1) * size);
      auto& page = *pages[number];
      if (page.packed != packed) continue;
      int first = view.first + at - view.offset;
      bool begins = at % size == 0;
      std::optional<mx::array> energy;
      if (begins && q && kernels::measures_stretch(number))
        energy = reference::query_energy(*q, first, keys.shape(1));
      if (!packed) {
        if (begins) keep_energy(slot, page, energy);
        continue;
      }
      auto mine = slice_axis(keys, 0, first, first + end - at);
      if (begins) {
        auto* before = number > 0 ? pages[number - 1].get() : nullptr;
        begin_page(slot, before, page, slice_axis(mine, 0, 0, 1), energy);
      }
      put_keys(slot, page, at % size, mine);
    }
  }
}

mx::array ArrayStore::center_behind(int slot, const Page& page) {
  auto& mine = side(page);
  auto& coder = *mine.coder(slot).centered();
  auto rows = page_rows(slot, page);
  rows.erase(rows.begin() + coder.arrays(), rows.end());
  auto first = mx::astype(mine.heads(slot, page.id).center, mx::float32);
  auto moved = mx::sum(coder.codebook_part(rows), 0, true);
  return first + mx::array(kernels::center_step) * moved;
}

void ArrayStore::keep_energy(
    int slot,
    const Page& page,
    const std::optional<mx::array>& query_energy) {
  mx::Shape shape{1, geometry_.kv_heads, geometry_.k_dim};
  auto unknown = mx::full(shape, -1.0f); // see moved_stretch
  side(page).put_energy(
      slot,
      page.id,
      query_energy ? mx::reshape(*query_energy, shape) : unknown);
}

void ArrayStore::begin_page(
    int slot,
    const Page* before,
    const Page& page,
    const mx::array& first_key,
    const std::optional<mx::array>& query_energy) {
  auto& mine = side(page);
  auto& coder = *mine.coder(slot).centered();
  auto center = mx::astype(first_key, mx::float32);
  auto stretch = mx::zeros(center.shape(), mx::int8);
  if (before) {
    // What that page tells, neither stretched nor rotated.
    auto rows = page_rows(slot, *before);
    auto energy = center;
    if (before->packed) {
      stretch = mine.heads(slot, before->id).stretch;
      auto by = reference::stretch_factors(stretch);
      center = coder.turned_back(center_behind(slot, *before)) / by;
      rows.erase(rows.begin() + coder.arrays(), rows.end());
      auto off = coder.turned_back(coder.codebook_part(rows)) / by;
      energy = mx::mean(mx::square(off), 0);
    } else {
      auto keys = sides_[0].coder(slot).decode(rows, nullptr).k;
      center = mx::mean(keys, 0, true);
      energy = mx::mean(mx::square(keys - center), 0);
    }
    if (query_energy)
      stretch = reference::moved_stretch(*query_energy, energy, stretch);
    center = center * reference::stretch_factors(stretch);
  }
  center = coder.rotated(center);
  auto most = mx::array(65504.0f); // of halves
  center = mx::clip(center, mx::negative(most), most);
  mine.put_heads(slot, page.id, {center, stretch});
}

void ArrayStore::put_keys(
    int slot,
    const Page& page,
    int token,
    const mx::array& keys) {
  auto& mine = side(page);
  auto& coder = *mine.coder(slot).centered();
  int row = page.id * options_.page_tokens;
  auto head = mine.heads(slot, page.id);
  Arrays before;
  if (token > 0) {
    before = page_rows(slot, page);
    before.erase(before.begin() + coder.arrays(), before.end());
    for (auto& x : before)
      x = slice_axis(x, 0, 0, token);
  }
  auto by = reference::stretch_factors(head.stretch);
  auto coded = reference::encode_centered(
      coder,
      coder.rotated(keys * by),
      token,
      before,
      mx::astype(head.center, mx::float32));
  mine.put(slot, row + token, coded);
}

} // namespace mlxlm::cache

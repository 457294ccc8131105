// Rows go to pages; see paged_write.h.
#include "runtime/kernels/attention/paged_write.h"

#include <algorithm>
#include <vector>

#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/attention/paged_work.h"
#include "runtime/kernels/attention/query_energy.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

class PageWriter {
 public:
  PageWriter(
      const PagedAttention& op,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v)
      : op_(op),
        layout_(op.layout),
        q_(q),
        k_(k),
        v_(v),
        q_type_(*float_type(q.dtype())),
        type_(*float_type(k.dtype())),
        heads_(q.shape(2)),
        group_(heads_ / layout_.kv_heads) {}

  void write(const PagedSegment& segment) const {
    auto dims = std::size_t(layout_.k_dim + layout_.v_dim);
    auto body = [&](std::size_t first, std::size_t last) {
      std::vector<float> scratch(dims);
      std::vector<std::byte> apart(2 * dims * sizeof(float));
      for (auto t = first; t < last; ++t) {
        if (op_.packed && is_packed(segment, page_of(segment, int(t))))
          continue;
        for (int h = 0; h < layout_.kv_heads; ++h)
          store(segment, int(t), h, scratch.data(), apart.data());
      }
    };
    for_row_blocks(segment.count, layout_.kv_heads * dims, body);
    if (op_.packed) pack(segment);
  }

 private:
  int page_of(const PagedSegment& segment, int index) const {
    return (segment.offset + index) / layout_.tokens;
  }
  // Of a head of the segment's token `index`, among those of k and v.
  std::size_t row_of(const PagedSegment& segment, int index, int head) const {
    return std::size_t(segment.first + index) * layout_.kv_heads + head;
  }

  // To a page of floats. scratch: a key and a value; apart: twice as much.
  void store(
      const PagedSegment& segment,
      int index,
      int head,
      float* scratch,
      std::byte* apart) const {
    int position = segment.offset + index, token = position % layout_.tokens;
    auto* page = (*segment.pages)[position / layout_.tokens];
    auto* layer = page + op_.layer_offset;
    auto row = row_of(segment, index, head);
    auto dims = std::size_t(layout_.k_dim + layout_.v_dim);
    store_row(
        layout_,
        layer,
        head,
        token,
        type_,
        k_.row(row, apart),
        v_.row(row, apart + dims * sizeof(float)),
        scratch);
    if (token == 0 && layout_.energies) {
      auto energy = query_energy(segment, position, head);
      auto* known = energy.empty() ? nullptr : energy.data();
      keep_query_energy(layout_, layer, head, known);
    }
  }

  // The segment's rows that belong into packed pages. Tokens of a page share
  // bytes, so a page's head is one thread's.
  void pack(const PagedSegment& segment) const {
    int tokens = layout_.tokens, first_page = segment.offset / tokens;
    int pages = page_of(segment, segment.count - 1) - first_page + 1;
    auto dims = std::size_t(layout_.k_dim + layout_.v_dim);
    // Where keys have centers, a page waits for the one before.
    int each = op_.packed->centered ? pages : 1;
    auto body = [&](std::size_t first, std::size_t last) {
      std::vector<float> floats(dims);
      std::vector<std::byte> apart(dims * sizeof(float));
      for (auto i = first * each; i < last * each; ++i) {
        int page = first_page + int(i) % pages, head = int(i) / pages;
        if (is_packed(segment, page))
          pack(segment, page, head, floats.data(), apart.data());
      }
    };
    constexpr std::size_t cost_of_coding = 32; // in values copied
    auto rows = std::min(segment.count, tokens);
    for_row_blocks(
        std::size_t(pages / each) * layout_.kv_heads,
        rows * dims * cost_of_coding * each,
        body);
  }

  void pack(
      const PagedSegment& segment,
      int page,
      int head,
      float* k,
      std::byte* apart) const {
    auto* v = k + layout_.k_dim;
    int tokens = layout_.tokens,
        begin = std::max(page * tokens, segment.offset);
    int end = std::min((page + 1) * tokens, segment.offset + segment.count);
    auto* layer = (*segment.pages)[page] + op_.packed_offset;
    for (int at = begin; at < end; ++at) {
      auto row = row_of(segment, at - segment.offset, head);
      to_floats(type_, k_.row(row, apart), layout_.k_dim, 0, k);
      if (!layout_.latent)
        to_floats(type_, v_.row(row, apart), layout_.v_dim, 0, v);
      if (at == page * tokens) start(segment, page, head, k);
      store_packed_row(*op_.packed, layer, head, at % tokens, k, v);
    }
  }

  void start(const PagedSegment& segment, int page, int head, const float* key)
      const {
    if (!op_.packed->centered) return;
    auto& pages = *segment.pages;
    PageBefore before;
    if (auto* data = page > 0 ? pages[page - 1] : nullptr) {
      if (is_packed(segment, page - 1))
        before.packed = data + op_.packed_offset;
      else
        before = {nullptr, data + op_.layer_offset, &layout_};
    }
    auto energy = query_energy(segment, page * layout_.tokens, head);
    begin_page(
        *op_.packed,
        pages[page] + op_.packed_offset,
        head,
        before,
        key,
        energy.empty() ? nullptr : energy.data());
  }

  // Mean squares [k_dim] of the queries at a page's first position that share a
  // key head; none where the page does not measure its stretch.
  std::vector<float> query_energy(
      const PagedSegment& segment,
      int position,
      int head) const {
    if (!measures_stretch(position / layout_.tokens)) return {};
    int dim = layout_.k_dim;
    std::vector<float> out(dim), row(dim);
    std::vector<std::byte> apart(q_.row_bytes());
    auto token = std::size_t(segment.first + position - segment.offset);
    for (int i = 0; i < group_; ++i) {
      auto* from = q_.row(token * heads_ + head * group_ + i, apart.data());
      to_floats(q_type_, from, dim, 0, row.data());
      for (int d = 0; d < dim; ++d)
        out[d] += row[d] * row[d] / float(group_);
    }
    return out;
  }

  const PagedAttention& op_;
  const PageLayout& layout_;
  RowView q_, k_, v_;
  FloatType q_type_, type_;
  int heads_, group_;
};

} // namespace

void write_pages(
    const PagedAttention& op,
    const mx::array& q,
    const mx::array& k,
    const mx::array& v) {
  PageWriter writer(op, q, k, v);
  for (auto& segment : *op.segments)
    writer.write(segment);
}

} // namespace mlxlm::kernels

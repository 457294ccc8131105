// Items of paged attention; see paged_work.h.
#include "runtime/kernels/attention/paged_work.h"

#include "runtime/threads.h"

namespace mlxlm::kernels {

namespace {

constexpr int chunk_tokens = 256;
constexpr int most_rows = 48; // query rows of an item
constexpr int fewest_rows = 12; // of a divided one

AttentionShape shape_of(const PagedAttention& op, const PagedSegment& segment) {
  auto shape = op.shape;
  shape.apart = segment.apart;
  return shape;
}

} // namespace

PagedWork::PagedWork(const PagedAttention& op, int heads)
    : op_(op),
      heads_(heads),
      group_(heads / op.layout.kv_heads),
      chunk_(std::max(1, chunk_tokens / op.layout.tokens) * op.layout.tokens) {}

std::vector<PagedItem> PagedWork::items() const {
  std::vector<PagedItem> items;
  for (std::size_t s = 0; s < op_.segments->size(); ++s) {
    auto& segment = (*op_.segments)[s];
    int rows = segment.count * group_;
    // The last rows see most: they go first.
    int most = item_rows(segment);
    for (int row = (rows - 1) / most * most; row >= 0; row -= most) {
      for (int h = 0; h < op_.layout.kv_heads; ++h)
        items.push_back(item(int(s), h, row, std::min(most, rows - row)));
    }
  }
  // A long prompt's piece among decoding sequences must not be last.
  if (op_.segments->size() > 1)
    std::stable_sort(items.begin(), items.end(), [](auto& a, auto& b) {
      return a.rows * (a.last_chunk - a.first_chunk) >
          b.rows * (b.last_chunk - b.first_chunk);
    });
  return items;
}

long PagedWork::size() const {
  auto& layout = op_.layout;
  long work = 0;
  for (auto& segment : *op_.segments) {
    // What the segment's last query sees.
    int all = segment.offset + segment.count, window = op_.shape.window;
    int seen = window > 0 ? std::min(all, window) : all;
    work += long(segment.count) * group_ * layout.kv_heads * seen *
        (layout.k_dim + layout.v_dim);
  }
  return work;
}

Visible PagedWork::visible(const PagedSegment& segment, int row) const {
  int index = row / group_;
  return {
      shape_of(op_, segment).window_begin(segment.offset, index),
      segment.offset + index};
}

Visible PagedWork::kept(const PagedSegment& segment, int row) const {
  auto shape = shape_of(op_, segment);
  int first = shape.kept_begin(segment.offset, row / group_);
  return {first, shape.keep - 1};
}

std::size_t PagedWork::place(const PagedItem& item, int row) const {
  auto token = std::size_t(segment(item).first + row / group_);
  return token * heads_ + item.head * group_ + row % group_;
}

// Most rows of the segment's items. A small piece of a prompt beside other
// segments would else be too few items for the threads to share evenly.
int PagedWork::item_rows(const PagedSegment& segment) const {
  int most = most_rows;
  if (op_.segments->size() == 1 || segment.count == 1) return most;
  int rows = segment.count * group_, enough = 4 * thread_count();
  while (most > fewest_rows &&
         (rows + most - 1) / most * op_.layout.kv_heads < enough)
    most /= 2;
  return most;
}

PagedItem PagedWork::item(int s, int head, int row, int rows) const {
  auto& segment = (*op_.segments)[s];
  int first = visible(segment, row).first / chunk_;
  int last = visible(segment, row + rows - 1).last / chunk_;
  // The first or the last row sees most of them.
  auto sees = [&](int row) {
    auto range = kept(segment, row);
    return range.first <= range.last;
  };
  bool keeps = sees(row) || sees(row + rows - 1);
  constexpr int none = -2;
  if (keeps) --first;
  return {s, head, row, rows, first, last + 1, keeps ? first : none};
}

} // namespace mlxlm::kernels

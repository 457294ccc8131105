// What work there is in a pass' attention: query rows of one head against
// chunks of keys, and which keys a row sees. The keys of a query are cut into
// chunks at fixed positions, so that splitting never shows in a result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "runtime/kernels/attention/paged.h"

namespace mlxlm::kernels {

// Query rows of one head of one segment against some chunks.
struct PagedItem {
  int segment, head, row, rows;
  int first_chunk, last_chunk; // last exclusive
  // The chunk before the first is the kept tokens' where there are any; else
  // no chunk's number.
  int kept_chunk;
  std::size_t partial = 0; // of a split: where its rows' results go
};

class PagedWork {
 public:
  PagedWork(const PagedAttention& op, int heads);

  std::vector<PagedItem> items() const;
  // Multiply-adds of all items.
  long size() const;

  const PagedSegment& segment(const PagedItem& item) const {
    return (*op_.segments)[item.segment];
  }
  int heads() const {
    return heads_;
  }
  // Query heads that share a key head. Row `r` of a segment is of its token
  // r / group() and of query head r % group() of those.
  int group() const {
    return group_;
  }
  int chunk() const { // tokens
    return chunk_;
  }
  Visible visible(const PagedSegment& segment, int row) const;
  Visible kept(const PagedSegment& segment, int row) const;
  // Index of a query row among all rows [N * H] of queries and results.
  std::size_t place(const PagedItem& item, int row) const;

 private:
  int item_rows(const PagedSegment& segment) const;
  PagedItem item(int segment, int head, int row, int rows) const;

  const PagedAttention& op_;
  int heads_, group_, chunk_;
};

inline bool is_packed(const PagedSegment& segment, int page) {
  return (*segment.packed)[page];
}

} // namespace mlxlm::kernels

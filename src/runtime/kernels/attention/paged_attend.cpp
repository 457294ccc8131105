// Attention to pages; see paged_attend.h.
//
// Each chunk of a query's keys has its own online softmax, and chunks join in
// order, whether one thread runs them all or many run one each: so splitting
// never shows in the result.
#include "runtime/kernels/attention/paged_attend.h"

#include <algorithm>
#include <cmath>

#include "runtime/kernels/attention/paged_work.h"
#include "runtime/kernels/attention/softmax_sums.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

constexpr int few_rows = 16; // below: limited by reading, so fetch ahead
constexpr long worth_threads = 1 << 16; // multiply-adds

struct AttendScratch {
  std::vector<float> q, scores;
  std::vector<std::byte> apart;
  std::vector<Visible> visible, kept;
  std::vector<const std::byte*> pages;
  std::vector<float> packed_q, packed; // prepared queries, scratch
  const std::int8_t* prepared = nullptr; // as in AttendPacked
  SoftmaxSums part, total, run, own;
  std::vector<float> own_rows;

  static AttendScratch& mine() {
    thread_local AttendScratch all;
    return all;
  }
};

class PagedRun {
 public:
  using Item = PagedItem;
  using Scratch = AttendScratch;

  PagedRun(
      const PagedAttention& op,
      const mx::array& q,
      const std::optional<PassRows>& rows,
      const std::vector<float>& sinks,
      mx::array& out)
      : op_(op),
        layout_(op.layout),
        work_(op, q.shape(2)),
        q_(q),
        q_type_(*float_type(q.dtype())),
        stride_(acc_stride(layout_)),
        sinks_(sinks),
        out_(out.data<std::byte>()) {
    if (rows && op.packed && op.packed->sees_own())
      own_.emplace(Own{
          RowView(rows->k), RowView(rows->v), *float_type(rows->k.dtype())});
  }

  void attend() const {
    auto items = work_.items();
    if (work_.size() < worth_threads) {
      for (auto& item : items)
        whole(item);
    } else if (int(items.size()) < 4 * thread_count()) {
      split(items);
    } else {
      parallel_for(int(items.size()), [&](int i) { whole(items[i]); });
    }
  }

 private:
  // Whether a row's own key and value are not read from its page.
  bool sees_own(const PagedSegment& segment, int row) const {
    return own_ &&
        is_packed(segment, work_.visible(segment, row).last / layout_.tokens);
  }

  // A row's own key and value, as one more part of its sums.
  SumsRow own_part(const Item& item, int row, Scratch& s) const {
    int k_dim = layout_.k_dim, v_dim = layout_.v_dim;
    auto& segment = work_.segment(item);
    auto token = std::size_t(segment.first + row / work_.group());
    auto at = token * layout_.kv_heads + item.head;
    s.own.resize(1, stride_);
    s.own_rows.resize(std::size_t(2) * k_dim);
    s.apart.resize(
        std::max({q_.row_bytes(), own_->k.row_bytes(), own_->v.row_bytes()}));
    auto *q = s.own_rows.data(), *k = q + k_dim;
    auto part = s.own.row(0);
    to_floats(
        q_type_, q_.row(work_.place(item, row), s.apart.data()), k_dim, 0, q);
    to_floats(own_->type, own_->k.row(at, s.apart.data()), k_dim, 0, k);
    to_floats(own_->type, own_->v.row(at, s.apart.data()), v_dim, 0, part.acc);
    float score = 0;
    for (int d = 0; d < k_dim; ++d)
      score += q[d] * op_.shape.scale * k[d];
    float cap = op_.shape.softcap;
    *part.max = cap > 0 ? cap * std::tanh(score / cap) : score;
    *part.sum = 1;
    return part;
  }

  void read_queries(const Item& item, Scratch& s) const {
    s.q.resize(std::size_t(item.rows) * layout_.k_dim);
    s.apart.resize(q_.row_bytes());
    s.visible.resize(item.rows);
    for (int r = 0; r < item.rows; ++r) {
      auto* to = s.q.data() + std::size_t(r) * layout_.k_dim;
      auto* from = q_.row(work_.place(item, item.row + r), s.apart.data());
      to_floats(q_type_, from, layout_.k_dim, 0, to);
      for (int d = 0; d < layout_.k_dim; ++d)
        to[d] *= op_.shape.scale;
      auto& segment = work_.segment(item);
      s.visible[r] = work_.visible(segment, item.row + r);
      s.visible[r].last -= sees_own(segment, item.row + r);
    }
    if (op_.shape.keep > 0) {
      s.kept.resize(item.rows);
      for (int r = 0; r < item.rows; ++r)
        s.kept[r] = work_.kept(work_.segment(item), item.row + r);
    }
    if (op_.packed) prepare_queries(item.rows, s);
    s.scores.resize(score_floats(layout_));
  }

  void prepare_queries(int rows, Scratch& s) const {
    auto& packed = *op_.packed;
    s.prepared = nullptr;
    s.packed_q.resize(std::size_t(rows) * packed.query_floats);
    // Those of stretched keys are prepared as pages come.
    for (int r = 0; r < rows && !packed.centered; ++r) {
      prepare_query(
          packed,
          s.q.data() + std::size_t(r) * layout_.k_dim,
          s.packed_q.data() + std::size_t(r) * packed.query_floats);
    }
    s.packed.resize(packed_scratch_floats(packed));
  }

  // The item's rows against one chunk.
  void chunk(const Item& item, int index, Scratch& s, SumsRow to) const {
    bool keeps = index == item.kept_chunk;
    auto& visible = keeps ? s.kept : s.visible;
    int first = std::min(visible.front().first, visible.back().first);
    int last = std::max(visible.back().last, first);
    if (!keeps) {
      first = std::max(index * work_.chunk(), first);
      last = std::min(index * work_.chunk() + work_.chunk() - 1, last);
      last = std::max(first, last); // of which a row may see nothing
    }
    int first_page = first / layout_.tokens, last_page = last / layout_.tokens;
    auto& segment = work_.segment(item);
    if (!op_.packed) {
      return plain_pages(item, index, {first_page, last_page}, visible, s, to);
    }
    // Runs of pages of one kind.
    for (int page = first_page, end; page <= last_page; page = end) {
      bool packed = is_packed(segment, page);
      for (end = page + 1; end <= last_page; ++end)
        if (is_packed(segment, end) != packed) break;
      bool only = page == first_page;
      if (!only) s.run.resize(item.rows, stride_);
      auto part = only ? to : s.run.row(0);
      Pages run{page, end - 1};
      if (packed)
        packed_pages(item, run, visible, s, part);
      else
        plain_pages(item, item.last_chunk, run, visible, s, part);
      if (only) continue;
      for (int r = 0; r < item.rows; ++r) {
        SumsRow total{to.acc + r * stride_, to.max + r, to.sum + r};
        join(total, s.run.row(r), layout_.v_dim);
      }
    }
  }

  struct Pages {
    int first, last; // inclusive
  };

  void packed_pages(
      const Item& item,
      Pages run,
      const std::vector<Visible>& visible,
      Scratch& s,
      SumsRow to) const {
    auto& pages = *work_.segment(item).pages;
    s.pages.clear();
    for (int i = run.first; i <= run.last; ++i)
      s.pages.push_back(pages[i] + op_.packed_offset);
    const std::byte* next = nullptr;
    if (run.last + 1 < int(pages.size()) && pages[run.last + 1])
      next = pages[run.last + 1] + op_.packed_offset;
    attend_packed(
        {op_.packed.get(),
         item.head,
         s.pages.data(),
         int(s.pages.size()),
         next,
         run.first * layout_.tokens,
         item.rows,
         visible.data(),
         s.q.data(),
         s.packed_q.data(),
         &s.prepared,
         op_.shape.softcap,
         s.packed.data(),
         to.acc,
         stride_,
         to.max,
         to.sum});
  }

  void plain_pages(
      const Item& item,
      int index,
      Pages run,
      const std::vector<Visible>& visible,
      Scratch& s,
      SumsRow to) const {
    auto& pages = *work_.segment(item).pages;
    int first_page = run.first, last_page = run.last;
    s.pages.clear();
    for (int i = first_page; i <= last_page; ++i) {
      s.pages.push_back(pages[i] + op_.layer_offset);
    }
    const std::byte* next = nullptr;
    if (item.rows <= few_rows && index != item.kept_chunk) {
      bool more = index + 1 < item.last_chunk;
      next = pages[last_page + more] + op_.layer_offset;
    }
    attend_pages(
        {&layout_,
         item.head,
         s.pages.data(),
         int(s.pages.size()),
         next,
         first_page * layout_.tokens,
         item.rows,
         visible.data(),
         s.q.data(),
         op_.shape.softcap,
         s.scores.data(),
         to.acc,
         to.max,
         to.sum});
  }

  // Divides, with the sink's share, and writes the row.
  void finish(const Item& item, int row, SumsRow sums) const {
    if (sees_own(work_.segment(item), row))
      join(sums, own_part(item, row, Scratch::mine()), layout_.v_dim);
    int head = item.head * work_.group() + row % work_.group();
    float scale = 1 / *sums.sum;
    if (!sinks_.empty()) {
      float most = std::max(*sums.max, sinks_[head]);
      float mine = std::exp(*sums.max - most);
      scale = mine / (*sums.sum * mine + std::exp(sinks_[head] - most));
    }
    auto bytes = layout_.v_dim * size_of(q_type_);
    auto* to = out_ + work_.place(item, row) * bytes;
    from_floats(q_type_, sums.acc, layout_.v_dim, scale, to);
  }

  void whole(const Item& item) const {
    auto& s = Scratch::mine();
    read_queries(item, s);
    s.total.resize(item.rows, stride_);
    s.part.resize(item.rows, stride_);
    chunk(item, item.first_chunk, s, s.total.row(0));
    for (int c = item.first_chunk + 1; c < item.last_chunk; ++c) {
      chunk(item, c, s, s.part.row(0));
      for (int r = 0; r < item.rows; ++r) {
        join(s.total.row(r), s.part.row(r), layout_.v_dim);
      }
    }
    for (int r = 0; r < item.rows; ++r) {
      finish(item, item.row + r, s.total.row(r));
    }
  }

  // Few chunks each their own item; the results join in order afterwards.
  void split(const std::vector<Item>& items) const {
    int chunks = 0;
    for (auto& item : items)
      chunks += item.last_chunk - item.first_chunk;
    int some = std::max(1, chunks / (8 * thread_count()));
    std::vector<Item> parts;
    std::size_t rows = 0;
    for (auto& item : items) {
      for (int c = item.first_chunk; c < item.last_chunk; c += some) {
        parts.push_back(item);
        parts.back().first_chunk = c;
        parts.back().last_chunk = std::min(c + some, item.last_chunk);
        parts.back().partial = rows;
        rows += std::size_t(item.rows) *
            (parts.back().last_chunk - parts.back().first_chunk);
      }
    }
    thread_local SoftmaxSums all; // of the stream's thread
    all.resize(rows, stride_);
    auto* sums = &all;
    parallel_for(int(parts.size()), [&](int i) {
      auto& part = parts[i];
      auto& s = Scratch::mine();
      read_queries(part, s);
      auto at = part.partial;
      for (int c = part.first_chunk; c < part.last_chunk; ++c) {
        chunk(part, c, s, sums->row(at));
        at += part.rows;
      }
    });
    std::size_t at = 0;
    for (auto& item : items) {
      auto count = std::size_t(item.last_chunk - item.first_chunk);
      for (int r = 0; r < item.rows; ++r) {
        auto total = all.row(at + r);
        for (std::size_t c = 1; c < count; ++c) {
          join(total, all.row(at + c * item.rows + r), layout_.v_dim);
        }
        finish(item, item.row + r, total);
      }
      at += count * item.rows;
    }
  }

  const PagedAttention& op_;
  const PageLayout& layout_;
  PagedWork work_;
  RowView q_;
  FloatType q_type_;
  std::size_t stride_;
  struct Own { // this pass' rows
    RowView k, v;
    FloatType type;
  };
  std::optional<Own> own_;
  const std::vector<float>& sinks_;
  std::byte* out_;
};

} // namespace

void attend_paged(
    const PagedAttention& op,
    const mx::array& q,
    const std::optional<PassRows>& rows,
    const std::vector<float>& sinks,
    mx::array& out) {
  PagedRun(op, q, rows, sinks, out).attend();
}

} // namespace mlxlm::kernels

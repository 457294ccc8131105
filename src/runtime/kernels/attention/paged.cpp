// The primitive of paged attention: what work there is, split over threads, and
// how partial results join; see paged.h. The arithmetic is in page_layout.cpp.
//
// The keys of a query are cut into chunks at fixed positions. Each chunk has
// its own online softmax, and chunks join in order, whether one thread runs
// them all or many run one each: so splitting never shows in the result.
#include "runtime/kernels/attention/paged.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

constexpr int chunk_tokens = 256;
constexpr int most_rows = 48; // query rows of an item
constexpr int fewest_rows = 12; // of a divided one
constexpr int few_rows = 16; // below: limited by reading, so fetch ahead
constexpr long worth_threads = 1 << 16; // multiply-adds

// Softmax sums of some query rows: acc [rows][stride].
struct Partial {
  std::vector<float> acc, max, sum;

  void resize(std::size_t rows, std::size_t stride) {
    if (acc.size() < rows * stride) acc.resize(rows * stride);
    if (max.size() < rows) max.resize(rows), sum.resize(rows);
  }
};

struct PartialRow {
  float *acc, *max, *sum;
};

// Adds `from` to `to`.
void join(PartialRow to, const PartialRow& from, int n) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  if (*from.max == none) return;
  if (*to.max == none) {
    std::copy(from.acc, from.acc + n, to.acc);
    *to.max = *from.max;
    *to.sum = *from.sum;
    return;
  }
  float most = std::max(*to.max, *from.max);
  float a = std::exp(*to.max - most), b = std::exp(*from.max - most);
  for (int i = 0; i < n; ++i)
    to.acc[i] = to.acc[i] * a + from.acc[i] * b;
  *to.sum = *to.sum * a + *from.sum * b;
  *to.max = most;
}

struct Item { // query rows of one head of one segment against some chunks
  int segment, head, row, rows;
  int first_chunk, last_chunk; // last exclusive
  // The chunk before the first is the kept tokens' where there are any; else
  // no chunk's number.
  int kept_chunk;
  std::size_t partial = 0; // of a split: where its rows' results go
};

struct Scratch {
  std::vector<float> q, scores;
  std::vector<std::byte> apart;
  std::vector<Visible> visible, kept;
  std::vector<const std::byte*> pages;
  std::vector<float> packed_q, packed; // prepared queries, scratch
  const std::int8_t* prepared = nullptr; // as in AttendPacked
  Partial part, total, run, own;
  std::vector<float> own_rows;
};

class Run {
 public:
  Run(const PagedAttention& op,
      const mx::array& q,
      const std::vector<float>& sinks,
      mx::array& out)
      : op_(op),
        layout_(op.layout),
        q_(q),
        q_type_(*float_type(q.dtype())),
        heads_(q.shape(2)),
        group_(heads_ / layout_.kv_heads),
        chunk_pages_(std::max(1, chunk_tokens / layout_.tokens)),
        chunk_(chunk_pages_ * layout_.tokens),
        stride_(acc_stride(layout_)),
        sinks_(sinks),
        out_(out.data<std::byte>()) {}

  void store(const mx::array& k, const mx::array& v) {
    RowView k_rows(k), v_rows(v);
    if (op_.packed && op_.packed->sees_own())
      own_.emplace(Own{k_rows, v_rows, *float_type(k.dtype())});
    auto type = *float_type(k.dtype());
    auto dims = layout_.k_dim + layout_.v_dim;
    for (auto& segment : *op_.segments) {
      auto body = [&](std::size_t first, std::size_t last) {
        std::vector<float> scratch(dims);
        std::vector<std::byte> apart(2 * dims * sizeof(float));
        for (auto t = first; t < last; ++t) {
          int position = segment.offset + int(t);
          if (op_.packed && is_packed(segment, position / layout_.tokens))
            continue;
          auto* page = (*segment.pages)[position / layout_.tokens];
          for (int h = 0; h < layout_.kv_heads; ++h) {
            auto row = (segment.first + t) * layout_.kv_heads + h;
            store_row(
                layout_,
                page + op_.layer_offset,
                h,
                position % layout_.tokens,
                type,
                k_rows.row(row, apart.data()),
                v_rows.row(row, apart.data() + dims * sizeof(float)),
                scratch.data());
          }
        }
      };
      for_row_blocks(segment.count, layout_.kv_heads * dims, body);
      if (op_.packed) pack(segment, type, k_rows, v_rows);
    }
  }

  void attend() const {
    std::vector<Item> items;
    long work = 0;
    for (std::size_t s = 0; s < op_.segments->size(); ++s) {
      auto& segment = (*op_.segments)[s];
      int rows = segment.count * group_;
      work += long(rows) * layout_.kv_heads * seen(segment) *
          (layout_.k_dim + layout_.v_dim);
      // The last rows see most: they go first.
      int most = item_rows(segment);
      for (int row = (rows - 1) / most * most; row >= 0; row -= most) {
        for (int h = 0; h < layout_.kv_heads; ++h) {
          items.push_back(item(int(s), h, row, std::min(most, rows - row)));
        }
      }
    }
    // A long prompt's piece among decoding sequences must not be last.
    if (op_.segments->size() > 1)
      std::stable_sort(items.begin(), items.end(), [](auto& a, auto& b) {
        return a.rows * (a.last_chunk - a.first_chunk) >
            b.rows * (b.last_chunk - b.first_chunk);
      });
    if (work < worth_threads) {
      for (auto& item : items)
        whole(item);
    } else if (int(items.size()) < 4 * thread_count()) {
      split(items);
    } else {
      parallel_for(int(items.size()), [&](int i) { whole(items[i]); });
    }
  }

 private:
  static bool is_packed(const PagedSegment& segment, int page) {
    return (*segment.packed)[page];
  }

  // Keeps the segment's rows that belong into packed pages. Tokens of a page
  // share bytes, so a page's head is one thread's.
  void pack(
      const PagedSegment& segment,
      FloatType type,
      const RowView& k_rows,
      const RowView& v_rows) const {
    int tokens = layout_.tokens, first_page = segment.offset / tokens;
    int pages = (segment.offset + segment.count - 1) / tokens - first_page + 1;
    auto dims = std::size_t(layout_.k_dim + layout_.v_dim);
    // Where keys have centers, a page waits for the one before.
    int each = op_.packed->centered ? pages : 1;
    auto body = [&](std::size_t first, std::size_t last) {
      std::vector<float> floats(dims);
      std::vector<std::byte> apart(dims * sizeof(float));
      for (auto i = first * each; i < last * each; ++i) {
        int page = first_page + int(i) % pages, h = int(i) / pages;
        if (!is_packed(segment, page)) continue;
        int begin = std::max(page * tokens, segment.offset);
        int end = std::min((page + 1) * tokens, segment.offset + segment.count);
        for (int at = begin; at < end; ++at) {
          auto row = std::size_t(segment.first + at - segment.offset) *
                  layout_.kv_heads +
              h;
          auto *k = floats.data(), *v = k + layout_.k_dim;
          to_floats(type, k_rows.row(row, apart.data()), layout_.k_dim, 0, k);
          if (!layout_.latent)
            to_floats(type, v_rows.row(row, apart.data()), layout_.v_dim, 0, v);
          if (at == page * tokens) start(segment, page, h, k);
          store_packed_row(
              *op_.packed,
              (*segment.pages)[page] + op_.packed_offset,
              h,
              at % tokens,
              k,
              v);
        }
      }
    };
    constexpr std::size_t cost_of_coding = 32; // in values copied
    auto rows = std::min(segment.count, tokens);
    for_row_blocks(
        std::size_t(pages / each) * layout_.kv_heads,
        rows * dims * cost_of_coding * each,
        body);
  }

  void start(const PagedSegment& segment, int page, int head, const float* key)
      const {
    auto& pages = *segment.pages;
    PageBefore before;
    if (auto* data = page > 0 ? pages[page - 1] : nullptr) {
      if (is_packed(segment, page - 1))
        before.packed = data + op_.packed_offset;
      else
        before = {nullptr, data + op_.layer_offset, &layout_};
    }
    std::vector<float> energy;
    if (op_.packed->centered && measures_stretch(page))
      energy = query_energy(segment, page * layout_.tokens, head);
    begin_page(
        *op_.packed,
        pages[page] + op_.packed_offset,
        head,
        before,
        key,
        energy.empty() ? nullptr : energy.data());
  }

  // Mean squares [k_dim] of the queries at `position` that share a key head.
  std::vector<float> query_energy(
      const PagedSegment& segment,
      int position,
      int head) const {
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

  // Most rows of the segment's items. A small piece of a prompt beside other
  // segments would else be too few items for the threads to share evenly.
  int item_rows(const PagedSegment& segment) const {
    int most = most_rows;
    if (op_.segments->size() == 1 || segment.count == 1) return most;
    int rows = segment.count * group_, enough = 4 * thread_count();
    while (most > fewest_rows &&
           (rows + most - 1) / most * layout_.kv_heads < enough)
      most /= 2;
    return most;
  }

  // Tokens that the segment's last query sees.
  int seen(const PagedSegment& segment) const {
    int all = segment.offset + segment.count, window = op_.shape.window;
    return window > 0 ? std::min(all, window) : all;
  }

  AttentionShape shape_of(const PagedSegment& segment) const {
    auto shape = op_.shape;
    shape.apart = segment.apart;
    return shape;
  }
  Visible visible(const PagedSegment& segment, int row) const {
    int index = row / group_;
    return {
        shape_of(segment).window_begin(segment.offset, index),
        segment.offset + index};
  }
  Visible kept(const PagedSegment& segment, int row) const {
    int first = shape_of(segment).kept_begin(segment.offset, row / group_);
    return {first, op_.shape.keep - 1};
  }

  Item item(int s, int head, int row, int rows) const {
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

  static Scratch& scratch() {
    thread_local Scratch mine;
    return mine;
  }

  // Whether a row's own key and value are not read from its page.
  bool sees_own(const PagedSegment& segment, int row) const {
    return own_ &&
        is_packed(segment, visible(segment, row).last / layout_.tokens);
  }

  // A row's own key and value, as one more part of its sums.
  PartialRow own_part(const Item& item, int row, Scratch& s) const {
    int k_dim = layout_.k_dim, v_dim = layout_.v_dim;
    auto& segment = (*op_.segments)[item.segment];
    auto token = std::size_t(segment.first + row / group_);
    auto at = token * layout_.kv_heads + item.head;
    s.own.resize(1, stride_);
    s.own_rows.resize(std::size_t(2) * k_dim);
    s.apart.resize(
        std::max({q_.row_bytes(), own_->k.row_bytes(), own_->v.row_bytes()}));
    auto *q = s.own_rows.data(), *k = q + k_dim;
    auto part = row_of(s.own, 0);
    to_floats(q_type_, q_.row(place(item, row), s.apart.data()), k_dim, 0, q);
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

  // Index of a query row among all rows [N * H] of q and out.
  std::size_t place(const Item& item, int row) const {
    auto& segment = (*op_.segments)[item.segment];
    auto token = std::size_t(segment.first + row / group_);
    return token * heads_ + item.head * group_ + row % group_;
  }

  void read_queries(const Item& item, Scratch& s) const {
    s.q.resize(std::size_t(item.rows) * layout_.k_dim);
    s.apart.resize(q_.row_bytes());
    s.visible.resize(item.rows);
    for (int r = 0; r < item.rows; ++r) {
      auto* to = s.q.data() + std::size_t(r) * layout_.k_dim;
      auto* from = q_.row(place(item, item.row + r), s.apart.data());
      to_floats(q_type_, from, layout_.k_dim, 0, to);
      for (int d = 0; d < layout_.k_dim; ++d)
        to[d] *= op_.shape.scale;
      auto& segment = (*op_.segments)[item.segment];
      s.visible[r] = visible(segment, item.row + r);
      s.visible[r].last -= sees_own(segment, item.row + r);
    }
    if (op_.shape.keep > 0) {
      s.kept.resize(item.rows);
      for (int r = 0; r < item.rows; ++r)
        s.kept[r] = kept((*op_.segments)[item.segment], item.row + r);
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
  void chunk(const Item& item, int index, Scratch& s, PartialRow to) const {
    bool keeps = index == item.kept_chunk;
    auto& visible = keeps ? s.kept : s.visible;
    int first = std::min(visible.front().first, visible.back().first);
    int last = std::max(visible.back().last, first);
    if (!keeps) {
      first = std::max(index * chunk_, first);
      last = std::min(index * chunk_ + chunk_ - 1, last);
      last = std::max(first, last); // of which a row may see nothing
    }
    int first_page = first / layout_.tokens, last_page = last / layout_.tokens;
    auto& segment = (*op_.segments)[item.segment];
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
      auto part = only ? to : row_of(s.run, 0);
      Pages run{page, end - 1};
      if (packed)
        packed_pages(item, run, visible, s, part);
      else
        plain_pages(item, item.last_chunk, run, visible, s, part);
      if (only) continue;
      for (int r = 0; r < item.rows; ++r) {
        PartialRow total{to.acc + r * stride_, to.max + r, to.sum + r};
        join(total, row_of(s.run, r), layout_.v_dim);
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
      PartialRow to) const {
    auto& pages = *(*op_.segments)[item.segment].pages;
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
      PartialRow to) const {
    auto& pages = *(*op_.segments)[item.segment].pages;
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

  PartialRow row_of(Partial& p, std::size_t row) const {
    return {p.acc.data() + row * stride_, &p.max[row], &p.sum[row]};
  }

  // Divides, with the sink's share, and writes the row.
  void finish(const Item& item, int row, PartialRow sums) const {
    if (sees_own((*op_.segments)[item.segment], row))
      join(sums, own_part(item, row, scratch()), layout_.v_dim);
    int head = item.head * group_ + row % group_;
    float scale = 1 / *sums.sum;
    if (!sinks_.empty()) {
      float most = std::max(*sums.max, sinks_[head]);
      float mine = std::exp(*sums.max - most);
      scale = mine / (*sums.sum * mine + std::exp(sinks_[head] - most));
    }
    auto bytes = layout_.v_dim * size_of(q_type_);
    auto* to = out_ + place(item, row) * bytes;
    from_floats(q_type_, sums.acc, layout_.v_dim, scale, to);
  }

  void whole(const Item& item) const {
    auto& s = scratch();
    read_queries(item, s);
    s.total.resize(item.rows, stride_);
    s.part.resize(item.rows, stride_);
    chunk(item, item.first_chunk, s, row_of(s.total, 0));
    for (int c = item.first_chunk + 1; c < item.last_chunk; ++c) {
      chunk(item, c, s, row_of(s.part, 0));
      for (int r = 0; r < item.rows; ++r) {
        join(row_of(s.total, r), row_of(s.part, r), layout_.v_dim);
      }
    }
    for (int r = 0; r < item.rows; ++r) {
      finish(item, item.row + r, row_of(s.total, r));
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
    thread_local Partial all; // of the stream's thread
    all.resize(rows, stride_);
    auto* sums = &all;
    parallel_for(int(parts.size()), [&](int i) {
      auto& part = parts[i];
      auto& s = scratch();
      read_queries(part, s);
      auto at = part.partial;
      for (int c = part.first_chunk; c < part.last_chunk; ++c) {
        chunk(part, c, s, row_of(*sums, at));
        at += part.rows;
      }
    });
    std::size_t at = 0;
    for (auto& item : items) {
      auto count = std::size_t(item.last_chunk - item.first_chunk);
      for (int r = 0; r < item.rows; ++r) {
        auto total = row_of(all, at + r);
        for (std::size_t c = 1; c < count; ++c) {
          join(total, row_of(all, at + c * item.rows + r), layout_.v_dim);
        }
        finish(item, item.row + r, total);
      }
      at += count * item.rows;
    }
  }

  const PagedAttention& op_;
  const PageLayout& layout_;
  RowView q_;
  FloatType q_type_;
  int heads_, group_, chunk_pages_, chunk_;
  std::size_t stride_;
  struct Own { // this pass' rows
    RowView k, v;
    FloatType type;
  };
  std::optional<Own> own_;
  const std::vector<float>& sinks_;
  std::byte* out_;
};

struct Paged {
  static constexpr const char* name = "mlxlm::paged_attention";
  std::shared_ptr<const PagedAttention> op;
  bool rows, sinks;

  // in: q [, k, v] [, sinks] [, after...]; out: result, written
  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    for (auto& x : out)
      allocate(x);
    auto weak = [](const mx::array& x) {
      return mx::array::unsafe_weak_copy(x);
    };
    Arrays used;
    for (int i = 0; i < 1 + (rows ? 2 : 0) + sinks; ++i) {
      used.push_back(weak(in[i]));
    }
    dispatch(
        stream,
        [op = op,
         rows = rows,
         sinks = sinks,
         used,
         result = weak(out[0])]() mutable {
          std::vector<float> logits;
          if (sinks) {
            auto& x = used.back();
            logits.resize(x.size());
            RowView view(x);
            std::vector<std::byte> apart(view.row_bytes());
            to_floats(
                *float_type(x.dtype()),
                view.row(0, apart.data()),
                int(x.size()),
                0,
                logits.data());
          }
          Run run(*op, used[0], logits, result);
          if (rows) run.store(used[1], used[2]);
          run.attend();
        });
  }

  Arrays reference(const Arrays&) const {
    fail(
        ErrorKind::internal,
        "attention",
        "expected a stateless memory for gradients, found pages");
  }
};

} // namespace

PagedResult paged_attention(
    PagedAttention op,
    const mx::array& q,
    const std::optional<std::pair<mx::array, mx::array>>& rows,
    const std::optional<mx::array>& sinks,
    const std::vector<mx::array>& after) {
  auto known = [](const mx::array& x) {
    return float_type(x.dtype()) ? x : mx::astype(x, mx::float32);
  };
  Arrays in{known(q)};
  if (rows) {
    in.push_back(known(rows->first));
    in.push_back(
        rows->second.dtype() == in[1].dtype()
            ? rows->second
            : mx::astype(rows->second, in[1].dtype()));
  }
  if (sinks) in.push_back(known(*sinks));
  in.insert(in.end(), after.begin(), after.end());
  mx::Shape shape{1, q.shape(1), q.shape(2), op.layout.v_dim};
  Paged primitive{
      std::make_shared<const PagedAttention>(std::move(op)),
      rows.has_value(),
      sinks.has_value()};
  auto out = cpu_arrays(
      std::move(primitive), {shape, {1}}, {in[0].dtype(), mx::uint8}, in);
  return {out[0], out[1]};
}

} // namespace mlxlm::kernels

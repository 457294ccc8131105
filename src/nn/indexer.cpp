#include "nn/indexer.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlxlm {

namespace {

// Scores are made for so many queries at a time that they stay below this.
constexpr int most_scores = 1 << 24;

mx::array hidden_score() {
  return mx::array(-std::numeric_limits<float>::infinity());
}

// Rows [begin, end) along the first axis.
mx::array part(const mx::array& x, int begin, int end) {
  auto start = mx::Shape(x.ndim(), 0);
  auto stop = x.shape();
  start[0] = begin;
  stop[0] = end;
  return mx::slice(x, start, stop);
}

// [n, T]: the keys up to each query.
mx::array causal(int first, int queries, int keys) {
  auto i = mx::reshape(mx::arange(first, first + queries, mx::int32), {-1, 1});
  return mx::less_equal(mx::arange(0, keys, 1, mx::int32), i);
}

// f(begin, end) for blocks of queries, joined.
template <typename F>
mx::array in_blocks(int queries, int scores_a_query, F f) {
  int size = std::clamp(most_scores / std::max(scores_a_query, 1), 1, queries);
  std::vector<mx::array> out;
  for (int at = 0; at < queries; at += size)
    out.push_back(f(at, std::min(at + size, queries)));
  return mx::concatenate(std::move(out), 0);
}

// The top_k best keys [T, D] for queries [n, H, D] whose heads are summed with
// weights [n, H].
mx::array best(
    const mx::array& queries,
    const mx::array& weights,
    const mx::array& keys,
    int first,
    int top_k) {
  int n = queries.shape(0), heads = queries.shape(1), all = keys.shape(0);
  auto flat = mx::reshape(queries, {n * heads, queries.shape(2)});
  auto hits =
      mx::maximum(mx::matmul(flat, mx::transpose(keys)), mx::array(0.0f));
  auto scores = mx::squeeze(
      mx::matmul(
          mx::expand_dims(weights, 1), mx::reshape(hits, {n, heads, all})),
      1);
  scores = mx::where(causal(first, n, all), scores, hidden_score());
  auto order = mx::argpartition(scores, all - top_k, -1);
  return mx::slice(order, {0, all - top_k}, {n, all});
}

// What a query sees of the rows, [n, T].
mx::array visible(
    const std::optional<mx::array>& tokens,
    int begin,
    int end,
    int first,
    int keys) {
  auto seen = causal(first + begin, end - begin, keys);
  if (!tokens) return seen;
  auto none = mx::zeros({end - begin, keys}, mx::float32);
  auto one = mx::array(1.0f);
  auto chosen = mx::put_along_axis(none, part(*tokens, begin, end), one, 1);
  return mx::logical_and(seen, mx::greater(chosen, mx::array(0.5f)));
}

} // namespace

Indexer::Indexer(const Scope& s, const IndexerOptions& o)
    : o_(o),
      queries_(s.linear("wq_b", o.q_rank, o.heads * o.head_dim)),
      keys_(s.linear("wk", o.hidden, o.head_dim)),
      weights_(s.linear("weights_proj", o.hidden, o.heads)),
      key_norm_(layer_norm(s, "k_norm", o.head_dim, o.eps)) {}

CacheSpec Indexer::cache() const {
  return LatentKv{o_.head_dim, 0, true, true};
}

mx::array Indexer::keys(const mx::array& x, const Step& step) const {
  int n = x.shape(1);
  auto k = mx::reshape(key_norm_(keys_(x)), {1, n, 1, o_.head_dim});
  return mx::reshape(o_.rope(k, step), {1, n, o_.head_dim});
}

Choice Indexer::choose(
    const mx::array& x,
    const mx::array& q,
    const Step& step,
    LayerCache& cache) const {
  int n = x.shape(1);
  auto turned =
      o_.rope(mx::reshape(queries_(q), {1, n, o_.heads, o_.head_dim}), step);
  auto queries = mx::astype(mx::squeeze(turned, 0), mx::float32);
  float scale = 1 / std::sqrt(static_cast<float>(o_.heads * o_.head_dim));
  auto weights =
      mx::astype(mx::squeeze(weights_(x), 0), mx::float32) * mx::array(scale);
  Choice out;
  const auto& segments = step.segments();
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto& s = segments[i];
    int all = s.offset + s.count;
    out.tokens.emplace_back();
    if (all <= o_.top_k) continue;
    auto keys = mx::astype(cache.kept(step, static_cast<int>(i)), mx::float32);
    out.tokens.back() = in_blocks(s.count, o_.heads * all, [&](int a, int b) {
      return best(
          part(queries, s.first + a, s.first + b),
          part(weights, s.first + a, s.first + b),
          keys,
          s.offset + a,
          o_.top_k);
    });
  }
  return out;
}

mx::array attend_chosen(
    const mx::array& q,
    const mx::array& rows,
    const std::optional<mx::array>& tokens,
    int first,
    int rank,
    float scale) {
  int n = q.shape(0), heads = q.shape(1), width = q.shape(2);
  // One query reads what it has chosen and nothing else.
  bool alone = n == 1 && tokens;
  auto k = mx::astype(
      alone ? mx::take(rows, mx::reshape(*tokens, {-1}), 0) : rows,
      mx::float32);
  int keys = k.shape(0);
  auto v = mx::slice(k, {0, 0}, {keys, rank});
  auto wide = mx::astype(q, mx::float32) * mx::array(scale);
  auto y = in_blocks(n, heads * keys, [&](int a, int b) {
    auto flat = mx::reshape(part(wide, a, b), {(b - a) * heads, width});
    auto scores =
        mx::reshape(mx::matmul(flat, mx::transpose(k)), {b - a, heads, keys});
    if (!alone)
      scores = mx::where(
          mx::expand_dims(visible(tokens, a, b, first, keys), 1),
          scores,
          hidden_score());
    auto p =
        mx::reshape(mx::softmax(scores, -1, true), {(b - a) * heads, keys});
    return mx::reshape(mx::matmul(p, v), {b - a, heads, rank});
  });
  return mx::astype(y, q.dtype());
}

} // namespace mlxlm

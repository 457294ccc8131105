// Plain MLX attention; see reference.h.
#include "runtime/kernels/attention/reference.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <limits>
#include <numeric>

namespace mlxlm::kernels::reference {

namespace {

// [L, S]: which keys each query sees.
mx::array visible(
    int q_first,
    int queries,
    const std::vector<int>& positions,
    const AttentionShape& shape) {
  std::vector<int> first, last, kept;
  for (int i = 0; i < queries; ++i) {
    first.push_back(shape.window_begin(q_first, i));
    last.push_back(q_first + i);
    kept.push_back(shape.kept_begin(q_first, i));
  }
  auto column = [&](const std::vector<int>& x) {
    return mx::array(x.begin(), mx::Shape{queries, 1}, mx::int32);
  };
  mx::array at(
      positions.begin(), mx::Shape{1, int(positions.size())}, mx::int32);
  auto mask = mx::greater_equal(at, column(first));
  if (shape.keep > 0) {
    auto sink = mx::logical_and(
        mx::greater_equal(at, column(kept)),
        mx::less(at, mx::array(shape.keep)));
    mask = mx::logical_or(mask, sink);
  }
  return mx::logical_and(mask, mx::less_equal(at, column(last)));
}

// Heads in front, grouped by the key head they share: [Hkv, H / Hkv, L, D].
mx::array grouped(const mx::array& x, int kv_heads) {
  int length = x.shape(1), heads = x.shape(2), dim = x.shape(3);
  auto y = mx::transpose(mx::squeeze(x, 0), {1, 0, 2});
  return mx::reshape(y, {kv_heads, heads / kv_heads, length, dim});
}

} // namespace

mx::array attention(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const AttentionShape& shape,
    const std::optional<mx::array>& sinks,
    int q_first,
    int k_first) {
  std::vector<int> positions(k.shape(1));
  std::iota(positions.begin(), positions.end(), k_first);
  return attention(q, k, v, shape, sinks, q_first, positions);
}

mx::array attention(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const AttentionShape& shape,
    const std::optional<mx::array>& sinks,
    int q_first,
    const std::vector<int>& positions,
    const std::optional<OwnRows>& own) {
  int queries = q.shape(1), heads = q.shape(2);
  int keys = k.shape(1), kv_heads = k.shape(2), v_dim = v.shape(3);
  int group = heads / kv_heads;
  auto front = [&](const mx::array& x) {
    return mx::astype(grouped(x, kv_heads), mx::float32);
  };
  auto qg = front(q) * mx::array(shape.scale), vg = front(v);
  auto hidden = mx::array(-std::numeric_limits<float>::infinity());
  auto masked = [&](mx::array scores, const mx::array& mask) {
    if (shape.softcap > 0) {
      auto cap = mx::array(shape.softcap);
      scores = mx::tanh(scores / cap) * cap;
    }
    return mx::where(mask, scores, hidden);
  };
  auto mask = visible(q_first, queries, positions, shape);
  auto scores = mx::matmul(qg, mx::swapaxes(front(k), -1, -2));
  if (own) {
    mx::array at(
        positions.begin(), mx::Shape{1, int(positions.size())}, mx::int32);
    auto places = mx::arange(q_first, q_first + queries, 1, mx::int32);
    mx::array seen(own->seen.begin(), mx::Shape{queries, 1}, mx::bool_);
    auto there = mx::equal(at, mx::reshape(places, {queries, 1}));
    mask = mx::logical_and(mask, mx::logical_not(mx::logical_and(there, seen)));
    auto mine = mx::sum(qg * front(own->k), -1, true);
    scores = mx::concatenate({masked(scores, mask), masked(mine, seen)}, -1);
  } else {
    scores = masked(scores, mask);
  }
  int first = 0; // of the keys among the scores
  if (sinks) {
    auto sink =
        mx::reshape(mx::astype(*sinks, mx::float32), {kv_heads, group, 1, 1});
    sink = mx::broadcast_to(sink, {kv_heads, group, queries, 1});
    scores = mx::concatenate({sink, scores}, -1);
    first = 1;
  }
  auto weights = mx::softmax(scores, -1, true);
  auto some = [&](int begin, int count) {
    return mx::slice(
        weights, {0, 0, 0, begin}, {kv_heads, group, queries, begin + count});
  };
  auto sums = mx::matmul(some(first, keys), vg);
  if (own) sums = sums + some(first + keys, 1) * front(own->v);
  auto out = mx::reshape(sums, {heads, queries, v_dim});
  return mx::astype(
      mx::expand_dims(mx::transpose(out, {1, 0, 2}), 0), q.dtype());
}

} // namespace mlxlm::kernels::reference

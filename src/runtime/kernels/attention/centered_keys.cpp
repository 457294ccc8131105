// Centered keys in plain MLX operations; see centered_keys.h.
#include "runtime/kernels/attention/centered_keys.h"

#include <mlx/ops.h>

#include <algorithm>

#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"

namespace mlxlm::kernels::reference {

mx::array stretch_factors(const mx::array& steps) {
  auto octaves =
      mx::astype(steps, mx::float32) / mx::array(float(stretch_steps));
  return mx::power(mx::array(2.0f), octaves);
}

mx::array moved_stretch(
    const mx::array& query_energy,
    const mx::array& key_energy,
    const mx::array& steps) {
  auto levels = [](const mx::array& x, float least) {
    auto mean = mx::mean(x, -1, true);
    return mx::log2(x + (mx::array(least) * mean + mx::array(1e-30f)));
  };
  auto aims = mx::array(0.25f) *
      (levels(query_energy, least_query) - levels(key_energy, least_key));
  aims = mx::array(float(stretch_steps)) * (aims - mx::mean(aims, -1, true));
  aims = mx::where(mx::isfinite(aims), aims, mx::array(0.0f));
  auto now = mx::astype(steps, mx::float32);
  auto begins =
      mx::logical_not(mx::any(mx::not_equal(now, mx::array(0.0f)), -1, true));
  auto move = mx::where(begins, mx::array(1.0f), mx::array(stretch_move));
  auto next = mx::round(now + move * (aims - now));
  next = mx::clip(next, mx::array(-127.0f), mx::array(127.0f));
  return mx::where(mx::less(query_energy, mx::array(0.0f)), now, next);
}

mx::array query_energy(const mx::array& q, int token, int kv_heads) {
  auto row =
      mx::slice(q, {0, token, 0, 0}, {1, token + 1, q.shape(2), q.shape(3)});
  int group = q.shape(2) / kv_heads;
  row =
      mx::reshape(mx::astype(row, mx::float32), {kv_heads, group, q.shape(3)});
  return mx::mean(mx::square(row), 1);
}

namespace {

mx::array rows_of(const mx::array& x, int first, int last) {
  return mx::slice(x, {first, 0, 0}, {last, x.shape(1), x.shape(2)});
}

// sum [1, heads, dim] and the rows of others, token after token.
mx::array and_rows(const mx::array& sum, std::vector<mx::array> others) {
  others.insert(others.begin(), sum);
  return mx::sum(mx::concatenate(others, 0), 0, true);
}

} // namespace

// A block's center follows from how the blocks before were rounded, so blocks
// are a chain; but nothing besides is done block by block.
std::vector<mx::array> encode_centered(
    const RowCoder& coder,
    const mx::array& keys,
    int token,
    const std::vector<mx::array>& before,
    const mx::array& first) {
  auto moved = mx::zeros(first.shape(), mx::float32); // by the blocks before
  std::vector<mx::array> open; // moves by this block's tokens before `token`
  if (token > 0) {
    auto moves = coder.codebook_part(before);
    int block = tokens_before_block(token);
    if (block > 0) moved = mx::sum(rows_of(moves, 0, block), 0, true);
    if (block < token) open.push_back(rows_of(moves, block, token));
  }
  std::vector<std::vector<mx::array>> parts;
  int last = token + keys.shape(0);
  for (int at = token, end; at < last; at = end) {
    end = std::min(last, tokens_before_block(at) + center_block);
    auto center = first + mx::array(center_step) * moved;
    auto codes = coder.codes_of_rotated(
        rows_of(keys, at - token, end - token) - center, TurboNorm::product);
    open.push_back(coder.codebook_part_of(codes));
    parts.resize(codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i)
      parts[i].push_back(codes[i]);
    if (end < last) moved = and_rows(moved, std::move(open));
    open.clear();
  }
  std::vector<mx::array> all;
  for (auto& part : parts)
    all.push_back(mx::concatenate(part, 0));
  return coder.packed(all);
}

mx::array centered_keys(
    const RowCoder& coder,
    const std::vector<mx::array>& coded,
    const PageHeads& all) {
  auto& centers = all.center;
  int pages = centers.shape(0), heads = centers.shape(1),
      dim = centers.shape(2);
  int tokens = coded[0].shape(0) / std::max(pages, 1);
  mx::Shape shape{pages, tokens, heads * dim};
  auto differences = mx::reshape(coder.decode_rotated(coded), shape);
  auto moves = mx::reshape(coder.codebook_part(coded), shape);
  std::vector<float> before(std::size_t(tokens) * tokens);
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < tokens_before_block(t); ++i)
      before[std::size_t(t) * tokens + i] = center_step;
  mx::array weights(before.data(), {tokens, tokens}, mx::float32);
  auto first = mx::reshape(centers, {pages, 1, heads * dim});
  auto keys = differences + first + mx::matmul(weights, moves);
  keys = coder.turned_back(mx::reshape(keys, {pages, tokens, heads, dim})) /
      mx::expand_dims(stretch_factors(all.stretch), 1);
  return mx::reshape(keys, {pages * tokens, heads, dim});
}

} // namespace mlxlm::kernels::reference

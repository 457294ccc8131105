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
  return mx::clip(next, mx::array(-127.0f), mx::array(127.0f));
}

mx::array query_energy(const mx::array& q, int token, int kv_heads) {
  auto row =
      mx::slice(q, {0, token, 0, 0}, {1, token + 1, q.shape(2), q.shape(3)});
  int group = q.shape(2) / kv_heads;
  row =
      mx::reshape(mx::astype(row, mx::float32), {kv_heads, group, q.shape(3)});
  return mx::mean(mx::square(row), 1);
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

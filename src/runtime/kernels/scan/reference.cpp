// Plain MLX forms of the recurrences; see scan.h.
#include <mlx/ops.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "runtime/kernels/scan.h"
#include "runtime/slices.h"

namespace mlxlm::kernels::reference {

namespace {

mx::array times(const mx::array& x, int begin, int end) {
  return slice_axis(x, 1, begin, end);
}

mx::array at(const mx::array& x, int t) {
  return mx::squeeze(times(x, t, t + 1), 1);
}

// x [B, L, G, D] at t, each of its G for `each` heads: [B, G * each, 1, D].
mx::array for_heads(const mx::array& x, int t, int each) {
  auto one = at(x, t);
  return mx::expand_dims(each == 1 ? one : mx::repeat(one, each, 1), -2);
}

// Each value over the last two axes of what it weighs.
mx::array as_matrix(const mx::array& x) {
  return mx::expand_dims(mx::expand_dims(x, -1), -1);
}

} // namespace

// The pairs (a, b) of neighbours join, then those of neighbours but one, and so
// on: log2(L) steps over the whole length (Hillis and Steele).
mx::array linear_scan(
    const mx::array& a,
    const mx::array& b,
    const mx::array& h) {
  auto decay = a, sum = b;
  int length = a.shape(1);
  for (int k = 1; k < length; k *= 2) {
    auto later = times(decay, k, length);
    auto joined = times(sum, k, length) + later * times(sum, 0, length - k);
    sum = mx::concatenate({times(sum, 0, k), joined}, 1);
    decay = mx::concatenate(
        {times(decay, 0, k), later * times(decay, 0, length - k)}, 1);
  }
  return sum + decay * mx::expand_dims(h, 1);
}

std::pair<mx::array, mx::array> selective_scan(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h) {
  constexpr int chunk = 64; // bounds [B, chunk, C, S]
  int length = x.shape(1);
  auto state = h;
  std::vector<mx::array> parts;
  for (int i = 0; i < length; i += chunk) {
    int end = std::min(length, i + chunk);
    auto rate = mx::expand_dims(times(dt, i, end), -1);
    auto in = mx::expand_dims(times(dt, i, end) * times(x, i, end), -1);
    auto all = linear_scan(
        mx::exp(rate * a), in * mx::expand_dims(times(b, i, end), 2), state);
    auto read = mx::expand_dims(times(c, i, end), -1); // [B, L, S, 1]
    parts.push_back(mx::squeeze(mx::matmul(all, read), -1));
    state = at(all, end - i - 1);
  }
  auto y = mx::concatenate(std::move(parts), 1);
  return {y + x * d, state};
}

std::pair<mx::array, mx::array> state_space(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h) {
  int each = x.shape(2) / b.shape(2);
  auto state = h;
  std::vector<mx::array> parts;
  for (int t = 0; t < x.shape(1); ++t) {
    auto rate = at(dt, t); // [B, H]
    auto keep = as_matrix(mx::exp(rate * a));
    auto in = mx::expand_dims(at(x, t) * mx::expand_dims(rate, -1), -1);
    state = state * keep + in * for_heads(b, t, each);
    parts.push_back(
        mx::expand_dims(mx::sum(state * for_heads(c, t, each), -1), 1));
  }
  return {mx::concatenate(parts, 1) + x * mx::expand_dims(d, -1), state};
}

std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state) {
  int each = v.shape(2) / k.shape(2);
  auto s = state;
  std::vector<mx::array> parts;
  for (int t = 0; t < v.shape(1); ++t) {
    auto gate = mx::expand_dims(at(g, t), -2);
    if (g.ndim() == 3) gate = as_matrix(at(g, t));
    auto key = for_heads(k, t, each);
    s = s * gate;
    auto error = mx::expand_dims(at(v, t), -1) - mx::sum(s * key, -1, true);
    auto rate = as_matrix(at(beta, t));
    s = s + rate * error * key;
    parts.push_back(mx::expand_dims(mx::sum(s * for_heads(q, t, each), -1), 1));
  }
  return {mx::concatenate(parts, 1), s};
}

std::pair<mx::array, mx::array> wkv7(
    const mx::array& r,
    const mx::array& w,
    const mx::array& k,
    const mx::array& v,
    const mx::array& a,
    const mx::array& b,
    const mx::array& state) {
  auto row = [](const mx::array& x, int t) { // [B, H, 1, D]
    return mx::expand_dims(at(x, t), -2);
  };
  auto s = state;
  std::vector<mx::array> parts;
  for (int t = 0; t < r.shape(1); ++t) {
    auto read = mx::sum(s * row(a, t), -1, true); // [B, H, D, 1]
    s = s * row(w, t) + read * row(b, t) +
        mx::expand_dims(at(v, t), -1) * row(k, t);
    parts.push_back(mx::expand_dims(mx::sum(s * row(r, t), -1), 1));
  }
  return {mx::concatenate(parts, 1), s};
}

} // namespace mlxlm::kernels::reference

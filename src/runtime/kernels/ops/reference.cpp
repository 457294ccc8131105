// The plain MLX definitions of the small operations.
#include <mlx/ops.h>

#include "core/check.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/ops.h"

namespace mlxlm::kernels::reference {

namespace {

mx::array f32(const mx::array& x) {
  return mx::astype(x, mx::float32);
}

} // namespace

mx::array rms_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    float eps,
    float offset) {
  auto y = f32(x);
  y = y * mx::rsqrt(mx::mean(mx::square(y), -1, true) + mx::array(eps));
  if (weight) {
    auto w = f32(*weight);
    y = y * (offset == 0 ? w : w + mx::array(offset));
  }
  return mx::astype(y, x.dtype());
}

mx::array layer_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    const std::optional<mx::array>& bias,
    float eps) {
  auto y = f32(x);
  y = y - mx::mean(y, -1, true);
  y = y * mx::rsqrt(mx::mean(mx::square(y), -1, true) + mx::array(eps));
  if (weight) y = y * f32(*weight);
  if (bias) y = y + f32(*bias);
  return mx::astype(y, x.dtype());
}

mx::array rope(
    const mx::array& x,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims,
    bool traditional,
    float magnitude) {
  int n = x.shape(1), heads = x.shape(2), head_dim = x.shape(3);
  int half = dims / 2;
  auto angle =
      mx::reshape(f32(positions), {n, 1}) * mx::reshape(inv_freq, {1, half});
  angle = mx::reshape(angle, {1, n, 1, half});
  auto c = mx::cos(angle) * mx::array(magnitude);
  auto s = mx::sin(angle) * mx::array(magnitude);
  auto head = f32(mx::slice(x, {0, 0, 0, 0}, {1, n, heads, dims}));
  auto part = [&](int index) {
    if (traditional) {
      auto pairs = mx::reshape(head, {1, n, heads, half, 2});
      return mx::squeeze(
          mx::slice(pairs, {0, 0, 0, 0, index}, {1, n, heads, half, index + 1}),
          4);
    }
    return mx::slice(
        head, {0, 0, 0, index * half}, {1, n, heads, (index + 1) * half});
  };
  auto a = part(0), b = part(1);
  auto ra = a * c - b * s, rb = a * s + b * c;
  auto y = traditional
      ? mx::reshape(mx::stack({ra, rb}, -1), {1, n, heads, dims})
      : mx::concatenate({ra, rb}, -1);
  y = mx::astype(y, x.dtype());
  if (dims == head_dim) return y;
  auto rest = mx::slice(x, {0, 0, 0, dims}, {1, n, heads, head_dim});
  return mx::concatenate({y, rest}, -1);
}

std::vector<mx::array> rope(
    const std::vector<RopeInput>& inputs,
    const mx::array& positions,
    const mx::array& inv_freq,
    const RopeShape& shape) {
  std::vector<mx::array> out;
  for (auto& in : inputs) {
    auto x = mx::reshape(in.x, {1, positions.shape(0), -1, in.head_dim});
    if (in.norm_weight) {
      x = rms_norm(x, in.norm_weight, in.norm_eps, in.norm_offset);
    }
    out.push_back(rope(
        x,
        positions,
        inv_freq,
        shape.dims,
        shape.traditional,
        shape.magnitude));
  }
  return out;
}

mx::array glu(Activation act, const mx::array& gate, const mx::array& up) {
  return mx::astype(activated(act, f32(gate)) * f32(up), up.dtype());
}

std::pair<mx::array, mx::array> top_k(const mx::array& x, int k) {
  auto order = mx::argsort(mx::negative(x), -1); // stable: ties stay in order
  auto stop = order.shape();
  stop.back() = k;
  auto best = mx::slice(order, mx::Shape(stop.size(), 0), stop);
  return {best, mx::take_along_axis(x, best, -1)};
}

} // namespace mlxlm::kernels::reference

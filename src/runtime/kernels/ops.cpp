// The public small operations: check shapes, then the fast path of the device.
#include "runtime/kernels/ops.h"

#include <mlx/ops.h>

#include "core/check.h"
#include "runtime/kernels/ops/fused.h"
#include "runtime/kernels/primitive.h"

namespace mlxlm::kernels {

namespace {

void check_row_vector(
    const char* op,
    const char* what,
    const mx::array& x,
    const std::optional<mx::array>& v) {
  if (v && (v->ndim() != 1 || v->shape(0) != x.shape(-1))) {
    fail(
        ErrorKind::internal,
        op,
        "expected {} of [{}], found {} dimensions and {} values",
        what,
        x.shape(-1),
        v->ndim(),
        v->size());
  }
}

void check_same_shape(const char* op, const mx::array& a, const mx::array& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) {
    fail(
        ErrorKind::internal,
        op,
        "expected two arrays of one shape and type, found {} and {} values",
        a.size(),
        b.size());
  }
}

// The types the CPU primitives take; anything else runs the reference.
bool takes(const mx::array& x) {
  return on_cpu() && x.size() > 0 && float_type(x.dtype());
}

bool takes(const mx::array& x, const std::optional<mx::array>& vector) {
  return takes(x) && (!vector || float_type(vector->dtype()));
}

void check_rope(
    const RopeInput& in,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims) {
  auto& x = in.x;
  bool good = (x.ndim() == 3 || x.ndim() == 4) && x.shape(0) == 1 &&
      positions.ndim() == 1 && positions.dtype() == mx::int32 &&
      positions.shape(0) == x.shape(1) && in.head_dim > 0 &&
      x.shape(-1) % in.head_dim == 0 &&
      (x.ndim() == 3 || x.shape(3) == in.head_dim) && dims > 0 &&
      dims % 2 == 0 && dims <= in.head_dim && inv_freq.ndim() == 1 &&
      inv_freq.shape(0) == dims / 2 && inv_freq.dtype() == mx::float32 &&
      (!in.norm_weight || in.norm_weight->shape() == mx::Shape{in.head_dim});
  if (!good) {
    fail(
        ErrorKind::internal,
        "rope",
        "expected x [1, N, H, D], positions int32 [N] and inv_freq f32 [{} / 2], "
        "found {} dimensions, {} positions and {} frequencies",
        dims,
        x.ndim(),
        positions.size(),
        inv_freq.size());
  }
}

} // namespace

mx::array rms_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    float eps,
    float offset) {
  check_row_vector("rms_norm", "weight", x, weight);
  return takes(x, weight) ? fused::rms_norm(x, weight, eps, offset)
                          : reference::rms_norm(x, weight, eps, offset);
}

std::pair<mx::array, mx::array> add_rms_norm(
    const mx::array& x,
    const mx::array& residual,
    const std::optional<mx::array>& weight,
    float eps,
    float offset) {
  check_row_vector("add_rms_norm", "weight", x, weight);
  check_same_shape("add_rms_norm", x, residual);
  if (takes(x, weight)) {
    return fused::add_rms_norm(x, residual, weight, eps, offset);
  }
  auto h = x + residual;
  return {h, reference::rms_norm(h, weight, eps, offset)};
}

mx::array layer_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    const std::optional<mx::array>& bias,
    float eps) {
  check_row_vector("layer_norm", "weight", x, weight);
  check_row_vector("layer_norm", "bias", x, bias);
  return takes(x, weight) && takes(x, bias)
      ? fused::layer_norm(x, weight, bias, eps)
      : reference::layer_norm(x, weight, bias, eps);
}

mx::array rope(
    const mx::array& x,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims,
    bool traditional,
    float magnitude) {
  MLXLM_CHECK(x.ndim() == 4, "rope takes x [1, N, H, D]");
  return rope(
      {{x, x.shape(3)}},
      positions,
      inv_freq,
      {dims, traditional, magnitude})[0];
}

std::vector<mx::array> rope(
    const std::vector<RopeInput>& inputs,
    const mx::array& positions,
    const mx::array& inv_freq,
    const RopeShape& shape) {
  bool all_fast = true;
  for (auto& in : inputs) {
    check_rope(in, positions, inv_freq, shape.dims);
    all_fast = all_fast && takes(in.x, in.norm_weight);
  }
  return all_fast ? fused::rope(inputs, positions, inv_freq, shape)
                  : reference::rope(inputs, positions, inv_freq, shape);
}

mx::array glu(Activation act, const mx::array& gate, const mx::array& up) {
  check_same_shape("glu", gate, up);
  return takes(gate) ? fused::glu(act, gate, up)
                     : reference::glu(act, gate, up);
}

std::pair<mx::array, mx::array> top_k(const mx::array& x, int k) {
  if (x.ndim() == 0 || k < 1 || k > x.shape(-1)) {
    fail(
        ErrorKind::internal,
        "top_k",
        "expected k from 1 to the last axis, found {}",
        k);
  }
  return takes(x) ? fused::top_k(x, k) : reference::top_k(x, k);
}

} // namespace mlxlm::kernels

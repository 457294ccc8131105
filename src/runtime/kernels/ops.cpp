// The public small operations: check shapes, then the fast path of the device.
#include "runtime/kernels/ops.h"

#include <mlx/ops.h>

#include "core/check.h"

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

void check_rope(
    const mx::array& x,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims) {
  bool good = x.ndim() == 4 && x.shape(0) == 1 && positions.ndim() == 1 &&
      positions.shape(0) == x.shape(1) && dims > 0 && dims % 2 == 0 &&
      dims <= x.shape(3) && inv_freq.ndim() == 1 &&
      inv_freq.shape(0) == dims / 2 && inv_freq.dtype() == mx::float32;
  if (!good) {
    fail(
        ErrorKind::internal,
        "rope",
        "expected x [1, N, H, D], positions [N] and inv_freq f32 [{} / 2], "
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
  return reference::rms_norm(x, weight, eps, offset);
}

std::pair<mx::array, mx::array> add_rms_norm(
    const mx::array& x,
    const mx::array& residual,
    const std::optional<mx::array>& weight,
    float eps,
    float offset) {
  check_row_vector("add_rms_norm", "weight", x, weight);
  check_same_shape("add_rms_norm", x, residual);
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
  return reference::layer_norm(x, weight, bias, eps);
}

mx::array rope(
    const mx::array& x,
    const mx::array& positions,
    const mx::array& inv_freq,
    int dims,
    bool traditional,
    float magnitude) {
  check_rope(x, positions, inv_freq, dims);
  return reference::rope(x, positions, inv_freq, dims, traditional, magnitude);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  check_same_shape("swiglu", gate, up);
  return reference::swiglu(gate, up);
}

mx::array geglu_tanh(const mx::array& gate, const mx::array& up) {
  check_same_shape("geglu_tanh", gate, up);
  return reference::geglu_tanh(gate, up);
}

mx::array geglu_erf(const mx::array& gate, const mx::array& up) {
  check_same_shape("geglu_erf", gate, up);
  return reference::geglu_erf(gate, up);
}

std::pair<mx::array, mx::array> top_k(const mx::array& x, int k) {
  if (x.ndim() == 0 || k < 1 || k > x.shape(-1)) {
    fail(
        ErrorKind::internal,
        "top_k",
        "expected k from 1 to the last axis, found {}",
        k);
  }
  return reference::top_k(x, k);
}

} // namespace mlxlm::kernels

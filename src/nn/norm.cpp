#include "nn/norm.h"

#include <mlx/ops.h>

#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/mixers.h"
#include "runtime/kernels/ops.h"

namespace mlxlm {

namespace {

std::optional<mx::array> value(const std::optional<Param>& p) {
  return p ? std::optional<mx::array>(**p) : std::nullopt;
}

} // namespace

mx::array Norm::operator()(const mx::array& x) const {
  switch (kind_) {
    case Kind::none:
      return x;
    case Kind::rms:
      return kernels::rms_norm(x, value(weight_), eps_, offset_);
    case Kind::rms_by_head:
      return kernels::rms_norm(x, std::nullopt, eps_) * **weight_;
    case Kind::layer:
      return kernels::layer_norm(x, value(weight_), value(bias_), eps_);
    case Kind::layer_by_head:
      return kernels::layer_norm(x, std::nullopt, std::nullopt, eps_) *
          **weight_;
  }
  return x;
}

std::optional<Norm::Rms> Norm::rms() const {
  if (kind_ != Kind::rms || !weight_) return std::nullopt;
  return Rms{**weight_, eps_, offset_};
}

std::pair<mx::array, mx::array> Norm::add(
    const mx::array& x,
    const mx::array& residual) const {
  if (kind_ == Kind::rms)
    return kernels::add_rms_norm(x, residual, value(weight_), eps_, offset_);
  auto sum = kernels::add(x, residual);
  return {sum, (*this)(sum)};
}

Norm rms_norm(
    const Scope& s,
    std::string_view name,
    int width,
    float eps,
    float offset) {
  Norm n;
  n.kind_ = Norm::Kind::rms;
  n.weight_ = (s / name).param("weight", {width});
  n.eps_ = eps;
  n.offset_ = offset;
  n.width_ = width;
  return n;
}

Norm rms_norm(float eps) {
  Norm n;
  n.kind_ = Norm::Kind::rms;
  n.eps_ = eps;
  return n;
}

Norm layer_norm(
    const Scope& s,
    std::string_view name,
    int width,
    float eps,
    Bias bias) {
  Norm n;
  n.kind_ = Norm::Kind::layer;
  n.weight_ = (s / name).param("weight", {width});
  if (bias == Bias::required)
    n.bias_ = (s / name).param("bias", {width});
  else if (bias == Bias::optional)
    n.bias_ = (s / name).find_param("bias", {width});
  n.eps_ = eps;
  n.width_ = width;
  return n;
}

Norm layer_norm(float eps) {
  Norm n;
  n.kind_ = Norm::Kind::layer;
  n.eps_ = eps;
  return n;
}

Norm head_layer_norm(
    const Scope& s,
    std::string_view name,
    int heads,
    int width,
    float eps) {
  Norm n;
  n.kind_ = Norm::Kind::layer_by_head;
  n.weight_ = (s / name).param("weight", {heads, width});
  n.eps_ = eps;
  n.width_ = width;
  return n;
}

Norm head_rms_norm(
    const Scope& s,
    std::string_view name,
    int heads,
    int width,
    float eps) {
  auto n = head_layer_norm(s, name, heads, width, eps);
  n.kind_ = Norm::Kind::rms_by_head;
  return n;
}

mx::array gated_rms_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    float eps,
    int groups,
    bool gate_first) {
  return kernels::gated_norm(
      x,
      gate,
      mx::astype(weight, mx::float32),
      {.eps = eps, .groups = groups, .gate_first = gate_first});
}

} // namespace mlxlm

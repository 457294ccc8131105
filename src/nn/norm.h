// Normalisation: one value type for every kind, so that a layer is data.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "weights/scope.h"

namespace mlxlm {

class Norm {
 public:
  Norm() = default; // the identity

  mx::array operator()(const mx::array& x) const;
  // The sum x + residual and its norm, in one pass where the kind has one.
  std::pair<mx::array, mx::array> add(
      const mx::array& x,
      const mx::array& residual) const;

  bool identity() const {
    return kind_ == Kind::none;
  }
  // Weight, epsilon and offset, when it is an RMS norm with a weight: for
  // kernels that norm on the way.
  struct Rms {
    mx::array weight;
    float eps, offset;
  };
  std::optional<Rms> rms() const;
  // Length of the axis it normalises; 0 when it does not know (no weight).
  int width() const {
    return width_;
  }

 private:
  enum class Kind { none, rms, rms_by_head, layer, layer_by_head };
  Kind kind_ = Kind::none;
  std::optional<Param> weight_, bias_;
  float eps_ = 0, offset_ = 0;
  int width_ = 0;

  friend Norm rms_norm(const Scope&, std::string_view, int, float, float);
  friend Norm rms_norm(float);
  friend Norm layer_norm(const Scope&, std::string_view, int, float, Bias);
  friend Norm layer_norm(float);
  friend Norm head_layer_norm(const Scope&, std::string_view, int, int, float);
  friend Norm head_rms_norm(const Scope&, std::string_view, int, int, float);
};

// x / rms(x) * (`name`.weight + offset)
Norm rms_norm(
    const Scope& s,
    std::string_view name,
    int width,
    float eps,
    float offset = 0);
Norm rms_norm(float eps); // without a weight
Norm layer_norm(
    const Scope& s,
    std::string_view name,
    int width,
    float eps,
    Bias bias = Bias::required);
Norm layer_norm(float eps);
// Over each head of x [..., heads, width], with a weight [heads, width].
Norm head_layer_norm(
    const Scope& s,
    std::string_view name,
    int heads,
    int width,
    float eps);

Norm head_rms_norm(
    const Scope& s,
    std::string_view name,
    int heads,
    int width,
    float eps);

// The norm of state-space blocks: RMS over groups of width / groups values, of
// x * silu(gate) (`gate_first`) or of x and then times silu(gate).
mx::array gated_rms_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    float eps,
    int groups,
    bool gate_first);

} // namespace mlxlm

// Rotary position embedding in every scaling that published configs use,
// following transformers: plain, linear, dynamic (NTK, also with alpha),
// llama3, yarn, longrope and proportional.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cache/step.h"
#include "core/fields.h"
#include "runtime/kernels/ops.h"

namespace mlxlm {

struct RopeOptions {
  bool traditional = false; // pairs (2i, 2i + 1) instead of (i, i + dims / 2)
  std::string layer_type = {}; // of `rope_parameters` that differ by layer type
  std::string theta_key =
      "rope_theta"; // where configs before transformers 5 have it
  double theta = 10000; // when the config says nothing
  double partial = 1; // fraction of the head that turns, likewise
  int dims = 0; // > 0: rotate exactly these, whatever the config says
  bool scaled = true; // false: ignore `rope_scaling`
  bool backwards = false; // turns the other way
};

struct RopePlan; // rope_plan.h

class Rope {
 public:
  Rope() = default; // turns nothing
  // Reads `rope_parameters` (transformers 5, perhaps by layer type), else
  // `rope_theta`, `rope_scaling` and `partial_rotary_factor`.
  static Rope from(
      const Fields& f,
      int head_dim,
      const RopeOptions& options = {});
  static Rope plain(int dims, double theta, bool traditional = false);

  // x [1, N, H, D], rotated at the step's positions.
  mx::array operator()(const mx::array& x, const Step& step) const;
  // Several at once, each given its heads and normed on the way (see
  // kernels::rope): each [1, N, H, D]. Not for the Rope that turns nothing.
  std::vector<mx::array> operator()(
      const std::vector<kernels::RopeInput>& inputs,
      const Step& step) const;
  explicit operator bool() const {
    return plan_ != nullptr;
  }

  int dims() const;
  // 1 / wavelength of every rotated pair for a sequence of `length` tokens.
  std::vector<float> inverse_frequencies(int length) const;
  // What cos and sin are multiplied by.
  float magnitude() const;

 private:
  explicit Rope(std::shared_ptr<const RopePlan> plan)
      : plan_(std::move(plan)) {}
  std::shared_ptr<const RopePlan> plan_;
};

// 1 + beta * ln(1 + floor(position / original)), [1, N, 1, 1]: what queries far
// beyond the original context are multiplied by (Ministral 3, Mistral 4, Llama
// 4).
// `first`: the number of the first position.
mx::array query_temperature(
    const Step& step,
    float beta,
    int original,
    int first = 0);

// 0.1 * mscale * ln(scale) + 1, yarn's magnitude; 1 for scale <= 1.
double yarn_mscale(double scale, double mscale = 1);

} // namespace mlxlm

// What recurrent blocks share: segments of a ragged pass as batches, their
// states, and the short causal convolution before the mixer.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/memory.h"
#include "cache/step.h"
#include "weights/scope.h"

namespace mlxlm {

// Segments of equal length, which can run as one batch [B, count, ...].
struct SegmentBatch {
  std::vector<Segment> segments;
  int count;

  int size() const {
    return static_cast<int>(segments.size());
  }
  // Their tokens of x [1, N, ...].
  mx::array of(const mx::array& x) const;
  // State `index` of each, [B, shape...].
  mx::array state(LayerCache& cache, int index) const;
  void set_state(LayerCache& cache, int index, const mx::array& value) const;
};
std::vector<SegmentBatch> batches(const Step& step);
// The results [B, count, ...] of all batches in the order of the pass, [1, N,
// ...].
mx::array in_order(
    const std::vector<SegmentBatch>& batches,
    const std::vector<mx::array>& results);

// Depthwise convolution over time of x [B, L, C] continued from the last K - 1
// inputs `state` [B, K - 1, C]; weight [C, K]. Returns the result and the new
// state.
std::pair<mx::array, mx::array> causal_conv(
    const mx::array& x,
    const mx::array& state,
    const mx::array& weight,
    const std::optional<mx::array>& bias);

// The weights of such a convolution, `name`.weight [C, K] and `name`.bias, run
// with its past in one of the layer's states. Several names: the channels of
// one behind those of the other, in whatever shares the checkpoint has them.
class ShortConv {
 public:
  ShortConv(
      const Scope& s,
      const std::vector<std::string>& names,
      int channels,
      int taps,
      Bias bias = Bias::none);
  // x [B, L, C], the tokens of `g`
  mx::array operator()(
      const mx::array& x,
      const SegmentBatch& g,
      LayerCache& cache,
      int index) const;
  // x [1, N, C] of the whole pass, where kernels find the past themselves; with
  // silu behind it where asked, in f32 or `type`.
  mx::array operator()(
      const mx::array& x,
      const kernels::StatePlacesPtr& states,
      const kernels::ConvOptions& options) const;
  Recurrent::State state() const; // what to remember

 private:
  mx::array weight_;
  mx::array taps_; // [K, C] f32, for the kernel
  std::optional<Param> bias_;
};

// ln(1 + e^x) without overflow
mx::array softplus(const mx::array& x);

} // namespace mlxlm

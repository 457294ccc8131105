// Short convolutions that continue from a sequence's last inputs.
#include "runtime/kernels/mixers.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cstring>

#include "runtime/kernels/mixers/shared.h"
#include "runtime/kernels/packed_rows.h"
#include "runtime/kernels/scan/rows.h"

namespace mlxlm::kernels {

namespace {

struct Convolution {
  static constexpr const char* name = "mlxlm::short_conv";
  StatePlacesPtr places;
  bool silu;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    int channels = in[1].shape(1), taps = in[1].shape(0);
    ConvRow row{
        taps,
        0,
        silu,
        nullptr,
        in[1].data<float>(),
        in.size() > 2 ? in[2].data<float>() : nullptr,
        std::size_t(channels),
        nullptr};
    dispatch(
        stream,
        [row,
         channels,
         places = places,
         x = FloatRows(in[0]),
         type = *float_type(out[0].dtype()),
         to = out[0].data<std::byte>()] {
          constexpr int wide = 1024;
          int parts = (channels + wide - 1) / wide;
          std::size_t cost = std::size_t(channels) * (row.taps_count + 4);
          for_parts(*places, parts, cost, [&](auto& segment, int part) {
            int first = part * wide, last = std::min(channels, first + wide);
            columns(row, segment, x, type, to, channels, first, last);
          });
        });
  }

  // Channels [first, last) of a segment; the last inputs go round in a ring.
  static void columns(
      ConvRow row,
      const StatePlaces::Segment& segment,
      const FloatRows& x,
      FloatType type,
      std::byte* to,
      int channels,
      int first,
      int last) {
    int taps = row.taps_count, n = last - first;
    thread_local std::vector<float> ring, result;
    thread_local std::vector<const float*> inputs;
    ring.resize(std::size_t(taps) * n);
    result.resize(n);
    inputs.resize(taps);
    auto slot = [&](int i) { return ring.data() + std::size_t(i % taps) * n; };
    auto state = [&](auto* base, int i) {
      return base + (std::size_t(i) * channels + first) * x.size();
    };
    for (int i = 0; i + 1 < taps; ++i)
      to_floats(x.type(), state(segment.from, i), n, 0, slot(i));
    row.count = n;
    row.taps += first;
    if (row.bias) row.bias += first;
    row.y = result.data();
    row.inputs = inputs.data();
    auto size = size_of(type);
    for (int t = 0; t < segment.count; ++t) {
      std::size_t token = segment.first + t;
      x.read(token, first, n, slot(t + taps - 1));
      for (int j = 0; j < taps; ++j)
        inputs[j] = slot(t + j);
      conv_row(row);
      from_floats(
          type, result.data(), n, 1, to + (token * channels + first) * size);
    }
    for (int i = 0; i + 1 < taps; ++i)
      from_floats(
          x.type(), slot(segment.count + i), n, 1, state(segment.to, i));
  }

  Arrays reference(const Arrays&) const {
    no_gradient(name);
  }
};

} // namespace

mx::array short_conv(
    const mx::array& x,
    const mx::array& taps,
    const std::optional<mx::array>& bias,
    const StatePlacesPtr& states,
    const ConvOptions& options) {
  bool good = on_cpu() && states && x.ndim() == 3 && x.shape(0) == 1 &&
      is_any_float(x) && taps.ndim() == 2 &&
      is_f32(taps, {taps.shape(0), x.shape(2)});
  good = good && (!bias || is_f32(*bias, {x.shape(2)}));
  expect_together(good, Convolution::name);
  Arrays in{x, taps};
  if (bias) in.push_back(*bias);
  for (std::size_t i = 1; i < in.size(); ++i)
    in[i] = packed_rows(in[i]);
  return cpu_array(
      Convolution{states, options.silu}, x.shape(), options.type, in);
}

} // namespace mlxlm::kernels

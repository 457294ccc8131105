// Mamba-2 behind its convolution.
#include "runtime/kernels/mixers.h"

#include <mlx/ops.h>

#include <algorithm>

#include "runtime/kernels/mixers/shared.h"
#include "runtime/kernels/packed_rows.h"
#include "runtime/kernels/scan/chunks.h"

namespace mlxlm::kernels {

namespace {

struct SpaceMixer {
  static constexpr const char* name = "mlxlm::space_mixer";
  StatePlacesPtr places;
  SpaceShape shape;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    dispatch(
        stream,
        [s = shape,
         places = places,
         dt = FloatRows(in[1]),
         width = std::size_t(in[0].shape(-1)),
         x = in[0].data<float>(),
         a_log = in[2].data<float>(),
         d = in[3].data<float>(),
         dt_bias = in[4].data<float>(),
         y = out[0].data<float>()] {
          auto inner = std::size_t(s.heads) * s.dim;
          std::size_t cost = 3 * inner * s.state;
          for_parts(*places, s.heads, cost, [&](auto& segment, int h) {
            thread_local std::vector<float> rates, outputs;
            rates.resize(segment.count);
            for (int t = 0; t < segment.count; ++t) {
              float raw = dt.value(segment.first + t, h) + dt_bias[h];
              rates[t] = std::clamp(softplus(raw), s.dt_min, s.dt_max);
            }
            auto row = std::size_t(segment.first) * width;
            auto group = std::size_t(h / (s.heads / s.groups)) * s.state;
            auto state = std::size_t(h) * s.dim * s.state;
            StateSpace one{
                segment.count,
                s.state,
                -std::exp(a_log[h]),
                d[h],
                x + row + std::size_t(h) * s.dim,
                rates.data(),
                x + row + inner + group,
                x + row + inner + std::size_t(s.groups) * s.state + group,
                width,
                1,
                width,
                reinterpret_cast<const float*>(segment.from) + state,
                y + segment.first * inner + std::size_t(h) * s.dim,
                reinterpret_cast<float*>(segment.to) + state,
                inner};
            run_head(one, s.dim, true, state_space_chunk, state_space_rows);
          });
        });
  }

  Arrays reference(const Arrays&) const {
    no_gradient(name);
  }
};

} // namespace

mx::array space_mixer(
    const mx::array& xbc,
    const mx::array& raw_dt,
    const mx::array& a_log,
    const mx::array& d,
    const mx::array& dt_bias,
    const StatePlacesPtr& states,
    const SpaceShape& s) {
  int tokens = raw_dt.shape(1), inner = s.heads * s.dim;
  int width = inner + 2 * s.groups * s.state;
  bool good = on_cpu() && states && is_f32(xbc, {1, tokens, width}) &&
      raw_dt.shape() == mx::Shape{1, tokens, s.heads} && is_any_float(raw_dt) &&
      s.groups > 0 && s.heads % s.groups == 0;
  for (auto* v : {&a_log, &d, &dt_bias})
    good = good && is_f32(*v, {s.heads});
  expect_together(good, SpaceMixer::name);
  return cpu_array(
      SpaceMixer{states, s},
      mx::Shape{1, tokens, inner},
      mx::float32,
      {packed_rows(xbc),
       raw_dt,
       packed_rows(a_log),
       packed_rows(d),
       packed_rows(dt_bias)});
}

} // namespace mlxlm::kernels

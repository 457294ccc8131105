// Products of panels, quantization and gates as plain loops that each target's
// file compiles for its own instructions; see target-inl.h. The file also
// defines
//   constexpr int most_tile: rows that `multiply` takes at once, 4 or 8

#include "runtime/kernels/linear/expand-inl.h"

template <int M>
void multiply_tile(
    const Chunk& chunk,
    bool halves,
    bool int8,
    const std::byte* x,
    float* out) {
  if (int8) {
    halves ? multiply<M, true, true>(chunk, x, out)
           : multiply<M, false, true>(chunk, x, out);
  } else {
    halves ? multiply<M, true, false>(chunk, x, out)
           : multiply<M, false, false>(chunk, x, out);
  }
}

// Calls body(std::integral_constant<int, M>, first row) for every tile.
template <typename Body>
inline void for_tiles(int rows, const Body& body) {
  for (int row = 0; row < rows;) {
    int m = tile_rows(rows - row, most_tile);
    switch (m) {
      case 8:
        body(std::integral_constant<int, most_tile>(), row);
        break;
      case 4:
        body(std::integral_constant<int, 4>(), row);
        break;
      case 2:
        body(std::integral_constant<int, 2>(), row);
        break;
      default:
        body(std::integral_constant<int, 1>(), row);
    }
    row += m;
  }
}

// The rows' records of a chunk of units stay in the caches for all panels.
void quantized_panels(const PanelJob& job, int record) {
  const auto& m = *job.matrix;
  thread_local Expanded space;
  bool halves = m.spec().group < unit_inputs;
  // With few rows, small chunks let reading ahead overlap multiplying.
  int step =
      job.rows > 8 ? chunk_units : std::max(4, m.spec().group / unit_inputs);
  for (int u = 0; u < m.units(); u += step) {
    int count = std::min(step, m.units() - u);
    for (int p = 0; p < job.panels; p++) {
      Ahead(m, job.panel + p).ask(u, count);
      auto chunk = expand(m, job.panel + p, u, count, space);
      float* out = job.out + std::size_t(p) * job.rows * panel_rows;
      for_tiles(job.rows, [&](auto tile, int row) {
        auto at =
            (std::size_t(row) * m.units() + std::size_t(u) * tile()) * record;
        multiply_tile<tile()>(
            chunk, halves, job.int8, job.x + at, out + row * panel_rows);
      });
    }
  }
}

template <typename Element>
void dense_chunk(const PanelJob& job, const Element* w, int first, int inputs) {
  const auto* x = reinterpret_cast<const float*>(job.x);
  for_tiles(job.rows, [&](auto tile, int row) {
    auto at =
        std::size_t(row) * job.matrix->cols() + std::size_t(first) * tile();
    multiply_dense<tile(), Element>(
        w, inputs, x + at, job.out + row * panel_rows);
  });
}

// Float codes: units as dense values, scaled.
void float_codes_chunk(const PanelJob& job, int first, int inputs) {
  const auto& m = *job.matrix;
  thread_local std::vector<float> values(chunk_inputs * panel_rows);
  thread_local Expanded space;
  int group = m.spec().group;
  expand_params(
      m, job.panel, first / group, (inputs + group - 1) / group, space.params);
  const auto* codes = m.codes(job.panel) + std::size_t(first) * panel_rows;
  for (int k = 0; k < inputs; k++) {
    const auto* from = codes + k / 4 * 64 + k % 4;
    const float* scale = space.params + k / group * 2 * panel_rows;
    for (int r = 0; r < panel_rows; r++) {
      values[k * panel_rows + r] = scale[r] * from_e4m3(from[r * 4]);
    }
  }
  dense_chunk(job, values.data(), first, inputs);
}

void float_panel(const PanelJob& job) {
  if (job.panels > 1) {
    auto one = job;
    for (one.panels = 1; one.panel < job.panel + job.panels; one.panel++) {
      float_panel(one);
      one.out += job.rows * panel_rows;
    }
    return;
  }
  const auto& m = *job.matrix;
  const auto* codes = m.codes(job.panel);
  for (int k = 0; k < m.cols(); k += chunk_inputs) {
    int inputs = std::min(chunk_inputs, m.cols() - k);
    auto at = std::size_t(k) * panel_rows;
    switch (m.spec().codes) {
      case Codes::f32:
        dense_chunk(job, reinterpret_cast<const float*>(codes) + at, k, inputs);
        break;
      case Codes::f16:
        dense_chunk(job, reinterpret_cast<const Half*>(codes) + at, k, inputs);
        break;
      case Codes::bf16:
        dense_chunk(job, reinterpret_cast<const Brain*>(codes) + at, k, inputs);
        break;
      default:
        float_codes_chunk(job, k, inputs);
    }
  }
}

template <int Record, int RecordInt8>
void panel(const PanelJob& job) {
  std::fill_n(job.out, job.panels * job.rows * panel_rows, 0.0f);
  if (multiplies_floats(*job.matrix)) {
    float_panel(job);
  } else {
    quantized_panels(job, job.int8 ? RecordInt8 : Record);
  }
}

// Units of 32 inputs at sixteen bits (or eight), rounded to nearest even.
template <int Record, int RecordInt8>
void quantize(
    const float* x,
    int cols,
    bool int8,
    std::byte* out,
    std::size_t stride) {
  int values_bytes =
      (int8 ? RecordInt8 : Record) - static_cast<int>(sizeof(UnitInfo));
  auto most = static_cast<float>(int8 ? 127 : most_quantized);
  for (int k = 0; k < cols; k += unit_inputs) {
    alignas(64) float unit[unit_inputs] = {};
    std::memcpy(unit, x + k, std::min(unit_inputs, cols - k) * sizeof(float));
    alignas(64) std::int16_t values[unit_inputs];
    UnitInfo info = {};
    for (int half = 0; half < 2; half++) {
      const float* from = unit + half * 16;
      std::int32_t largest = 0; // magnitudes order as their bits do
      for (int i = 0; i < 16; i++) {
        largest = std::max(
            largest, std::bit_cast<std::int32_t>(from[i]) & 0x7fffffff);
      }
      auto peak = std::bit_cast<float>(largest);
      float inverse = peak > 1e-30f ? most / peak : 0;
      std::int32_t sum = 0;
      for (int i = 0; i < 16; i++) {
        // Adding 1.5 * 2^23 leaves the rounded integer in the low bits.
        auto q = std::bit_cast<std::int32_t>(from[i] * inverse + 12582912.0f) -
            0x4b400000;
        values[half * 16 + i] = static_cast<std::int16_t>(q);
        sum += values[half * 16 + i];
      }
      info.scale[half] = peak > 1e-30f || peak != peak ? peak / most : 0;
      info.half_sum[half] = info.scale[half] * static_cast<float>(sum);
    }
    info.sum = info.half_sum[0] + info.half_sum[1];
    store_values(values, int8, out);
    std::memcpy(out + values_bytes, &info, sizeof(info));
    out += stride;
  }
}

// e^x, relative error 2e-7; 2^n * p(r), |r| <= ln 2 / 2.
inline float exp_of(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  float rounded = x * 1.44269504f + 12582912.0f;
  float n = rounded - 12582912.0f;
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  auto exponent = (std::bit_cast<std::int32_t>(rounded) - 0x4b400000 + 127)
      << 23;
  return p * std::bit_cast<float>(exponent);
}

void gate(Activation act, float* gate, const float* up, int count) {
  switch (act) {
    case Activation::silu:
      for (int i = 0; i < count; i++) {
        gate[i] = gate[i] / (1.0f + exp_of(-gate[i])) * up[i];
      }
      break;
    case Activation::gelu_tanh: // x / (1 + e^(-2u)) = x / 2 * (1 + tanh(u))
      for (int i = 0; i < count; i++) {
        float x = gate[i];
        float u = 0.7978845608f * (x + 0.044715f * x * x * x);
        gate[i] = x / (1.0f + exp_of(-2.0f * u)) * up[i];
      }
      break;
    case Activation::gelu_erf:
      for (int i = 0; i < count; i++) {
        gate[i] =
            gate[i] * 0.5f * (1.0f + std::erf(gate[i] * 0.70710678f)) * up[i];
      }
      break;
    case Activation::relu:
      for (int i = 0; i < count; i++) {
        gate[i] = std::max(gate[i], 0.0f) * up[i];
      }
      break;
    case Activation::relu2:
      for (int i = 0; i < count; i++) {
        float x = std::max(gate[i], 0.0f);
        gate[i] = x * x * up[i];
      }
      break;
  }
}

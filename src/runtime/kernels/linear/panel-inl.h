// Products of panels, quantization and gates as plain loops that each target's
// file compiles for its own instructions; see target-inl.h. The file also
// defines
//   constexpr int most_tile: rows that `multiply` takes at once, 4 or 8

constexpr int chunk_units = 16;
constexpr int chunk_inputs = chunk_units * unit_inputs;

using Word = std::uint64_t;

// Part of a panel as bytes and floats, small enough for the first-level cache.
struct Expanded {
  alignas(64) std::uint8_t codes[chunk_units * unit_bytes];
  // Per group, or per half unit: 16 scales, then 16 biases.
  alignas(64) float params[2 * chunk_units * 2 * panel_rows];
};

constexpr Word each_byte(int value) {
  return 0x0101010101010101u * static_cast<Word>(value);
}

// One plane of `Bits` of a unit: 64 * Bits bytes, eight vectors of codes.
template <int Bits, bool First>
inline void expand_plane(const std::uint8_t* in, int shift, std::uint8_t* out) {
  constexpr int together = 8 / Bits;
  constexpr Word mask = each_byte((1 << Bits) - 1);
  for (int p = 0; p < Bits; p++) {
    Word from[8];
    std::memcpy(from, in + 64 * p, 64);
    for (int j = 0; j < together; j++) {
      auto* at = out + (p * together + j) * 64;
      Word to[8];
      if constexpr (!First) {
        std::memcpy(to, at, 64);
      }
      for (int w = 0; w < 8; w++) {
        Word code = (from[w] >> j * Bits & mask) << shift;
        if constexpr (First) {
          to[w] = code;
        } else {
          to[w] |= code;
        }
      }
      std::memcpy(at, to, 64);
    }
  }
}

template <int Bits>
void expand_codes(const std::uint8_t* in, int units, std::uint8_t* out) {
  for (int u = 0; u < units; u++, in += 64 * Bits, out += unit_bytes) {
    const auto* plane = in;
    int shift = 0;
    if constexpr ((Bits & 4) != 0) {
      expand_plane<4, true>(plane, shift, out);
      plane += 4 * 64;
      shift += 4;
    }
    if constexpr ((Bits & 2) != 0) {
      expand_plane<2, (Bits & 4) == 0>(plane, shift, out);
      plane += 2 * 64;
      shift += 2;
    }
    if constexpr ((Bits & 1) != 0) {
      expand_plane<1, (Bits & 6) == 0>(plane, shift, out);
    }
  }
}

void expand_codes(
    int bits,
    const std::uint8_t* in,
    int units,
    std::uint8_t* out) {
  switch (bits) {
    case 1:
      return expand_codes<1>(in, units, out);
    case 2:
      return expand_codes<2>(in, units, out);
    case 3:
      return expand_codes<3>(in, units, out);
    case 4:
      return expand_codes<4>(in, units, out);
    case 5:
      return expand_codes<5>(in, units, out);
    case 6:
      return expand_codes<6>(in, units, out);
    case 7:
      return expand_codes<7>(in, units, out);
    default:
      std::memcpy(out, in, static_cast<std::size_t>(units) * unit_bytes);
  }
}

template <typename T>
inline T load(const std::uint8_t* p, int i) {
  T value;
  std::memcpy(&value, p + i * sizeof(T), sizeof(T));
  return value;
}

// Sixteen values of a parameter as floats.
inline void load16(Params params, const std::uint8_t* p, float* out) {
  switch (params) {
    case Params::f32_affine:
      std::memcpy(out, p, panel_rows * sizeof(float));
      break;
    case Params::bf16_affine:
      for (int r = 0; r < panel_rows; r++) {
        out[r] = from_bf16(load<std::uint16_t>(p, r));
      }
      break;
    case Params::e8m0_scale:
      for (int r = 0; r < panel_rows; r++) {
        out[r] = from_e8m0(p[r]);
      }
      break;
    case Params::e4m3_scale:
      for (int r = 0; r < panel_rows; r++) {
        out[r] = from_e4m3(p[r]);
      }
      break;
    default:
      load_f16(p, out);
  }
}

inline void zero_bias(float* params, float zero, float factor) {
  for (int r = 0; r < panel_rows; r++) {
    params[r] *= factor;
    params[panel_rows + r] = params[r] * zero;
  }
}

// Scales and biases of groups [first, first + count).
void expand_params(
    const Packed& m,
    std::size_t panel,
    int first,
    int count,
    float* out) {
  const auto& spec = m.spec();
  const auto* p = m.params(panel);
  // Table entries are stored plus 128, see `expand`.
  bool table = spec.codes == Codes::table;
  auto zero = static_cast<float>(table ? -128 : spec.zero);
  float factor = table && spec.half ? 0.5f : 1.0f;
  int groups = spec.group > 0 ? 256 / spec.group : 1;
  for (int g = first; g < first + count; g++, out += 2 * panel_rows) {
    switch (spec.params) {
      case Params::f32_affine:
      case Params::f16_affine:
      case Params::bf16_affine: {
        int size = spec.params == Params::f32_affine ? 4 : 2;
        const auto* at = p + std::size_t(g) * 2 * size * panel_rows;
        load16(spec.params, at, out);
        load16(spec.params, at + size * panel_rows, out + panel_rows);
        break;
      }
      case Params::f16_scale:
        load16(spec.params, p + std::size_t(g) * 2 * panel_rows, out);
        zero_bias(out, zero, factor);
        break;
      case Params::e8m0_scale:
      case Params::e4m3_scale:
        load16(spec.params, p + std::size_t(g) * panel_rows, out);
        zero_bias(out, zero, factor);
        break;
      case Params::k_affine: {
        const auto* super =
            p + std::size_t(g / groups) * (4 + 2 * groups) * panel_rows;
        const auto* sc = super + (4 + g % groups) * panel_rows;
        load16(spec.params, super, out);
        load16(spec.params, super + 2 * panel_rows, out + panel_rows);
        for (int r = 0; r < panel_rows; r++) {
          out[r] *= static_cast<float>(sc[r]);
          out[panel_rows + r] *=
              -static_cast<float>(sc[groups * panel_rows + r]);
        }
        break;
      }
      case Params::k_scale: {
        const auto* super =
            p + std::size_t(g / groups) * (2 + groups) * panel_rows;
        const auto* sc = super + (2 + g % groups) * panel_rows;
        load16(spec.params, super, out);
        for (int r = 0; r < panel_rows; r++) {
          out[r] *= static_cast<float>(static_cast<std::int8_t>(sc[r]));
        }
        zero_bias(out, zero, factor);
        break;
      }
      case Params::none:
        break;
    }
  }
}

// Units [first, first + count) of a panel.
Chunk expand(
    const Packed& m,
    std::size_t panel,
    int first,
    int count,
    Expanded& space) {
  const auto& spec = m.spec();
  const auto* in = m.codes(panel) + std::size_t(first) * 64 * spec.bits;
  const auto* codes = in;
  if (spec.bits != 8) {
    expand_codes(spec.bits, in, count, space.codes);
    codes = space.codes;
  }
  if (spec.codes == Codes::table) {
    std::uint8_t entries[16];
    for (int i = 0; i < 16; i++) {
      entries[i] = static_cast<std::uint8_t>(spec.table[i] + 128);
    }
    for (int u = 0; u < count; u++) {
      lookup(entries, space.codes + u * unit_bytes);
    }
  }
  int first_input = first * unit_inputs;
  int inputs = std::min(count * unit_inputs, m.cols() - first_input);
  int groups = (inputs + spec.group - 1) / spec.group;
  expand_params(m, panel, first_input / spec.group, groups, space.params);
  if (spec.group < unit_inputs && groups % 2 != 0) {
    std::fill_n(space.params + groups * 2 * panel_rows, 2 * panel_rows, 0.0f);
  }
  int shift = spec.group <= unit_inputs
      ? 0
      : std::countr_zero(unsigned(spec.group)) - 5;
  return {codes, space.params, count, shift};
}

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

// Asks for what units [first, first + count) read, counted on into the next
// panels.
inline void prefetch(const Packed& m, std::size_t panel, int first, int count) {
  panel += static_cast<std::size_t>(first / m.units());
  first %= m.units();
  auto ask = [&](const std::uint8_t* p, std::size_t unit) {
    p += first * unit;
    for (std::size_t i = 0; i < count * unit; i += 64) {
      __builtin_prefetch(p + i);
    }
  };
  ask(m.codes(panel), std::size_t(64) * m.spec().bits);
  ask(m.params(panel), panel_rows * m.row_params() / m.units());
}

void quantized_panel(const PanelJob& job, int record) {
  const auto& m = *job.matrix;
  thread_local Expanded space;
  constexpr int ahead = 16;
  bool halves = m.spec().group < unit_inputs;
  // With few rows, small chunks let reading ahead overlap multiplying.
  int step =
      job.rows > 8 ? chunk_units : std::max(4, m.spec().group / unit_inputs);
  for (int u = 0; u < m.units(); u += step) {
    int count = std::min(step, m.units() - u);
    prefetch(m, job.panel, u + ahead, count);
    auto chunk = expand(m, job.panel, u, count, space);
    for_tiles(job.rows, [&](auto tile, int row) {
      auto at =
          (std::size_t(row) * m.units() + std::size_t(u) * tile()) * record;
      multiply_tile<tile()>(
          chunk, halves, job.int8, job.x + at, job.out + row * panel_rows);
    });
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
  std::fill_n(job.out, job.rows * panel_rows, 0.0f);
  if (multiplies_floats(*job.matrix)) {
    float_panel(job);
  } else {
    quantized_panel(job, job.int8 ? RecordInt8 : Record);
  }
}

// Sixteen bits (or eight) per unit of 32 inputs, rounded to nearest even.
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
    std::int32_t largest = 0; // magnitudes order as their bits do
    for (float value : unit) {
      largest =
          std::max(largest, std::bit_cast<std::int32_t>(value) & 0x7fffffff);
    }
    auto peak = std::bit_cast<float>(largest);
    float inverse = peak > 1e-30f ? most / peak : 0;
    alignas(64) std::int16_t values[unit_inputs];
    std::int32_t sums[2] = {0, 0};
    for (int half = 0; half < 2; half++) {
      std::int32_t sum = 0;
      for (int i = half * 16; i < half * 16 + 16; i++) {
        // Adding 1.5 * 2^23 leaves the rounded integer in the low bits.
        auto q = std::bit_cast<std::int32_t>(unit[i] * inverse + 12582912.0f) -
            0x4b400000;
        values[i] = static_cast<std::int16_t>(q);
        sum += values[i];
      }
      sums[half] = sum;
    }
    store_values(values, int8, out);
    float scale = peak > 1e-30f || peak != peak ? peak / most : 0;
    UnitInfo info = {
        scale,
        scale * static_cast<float>(sums[0] + sums[1]),
        {scale * static_cast<float>(sums[0]),
         scale * static_cast<float>(sums[1])}};
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

void gate(Gate act, float* gate, const float* up, int count) {
  switch (act) {
    case Gate::silu:
      for (int i = 0; i < count; i++) {
        gate[i] = gate[i] / (1.0f + exp_of(-gate[i])) * up[i];
      }
      break;
    case Gate::gelu_tanh: // x / (1 + e^(-2u)) = x / 2 * (1 + tanh(u))
      for (int i = 0; i < count; i++) {
        float x = gate[i];
        float u = 0.7978845608f * (x + 0.044715f * x * x * x);
        gate[i] = x / (1.0f + exp_of(-2.0f * u)) * up[i];
      }
      break;
    case Gate::gelu_erf:
      for (int i = 0; i < count; i++) {
        gate[i] =
            gate[i] * 0.5f * (1.0f + std::erf(gate[i] * 0.70710678f)) * up[i];
      }
      break;
  }
}

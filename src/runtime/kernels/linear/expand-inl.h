// Unpacks parts of panels to bytes and floats, for any combination of codes and
// parameters, as plain loops; included by panel-inl.h.

constexpr int chunk_units = 16;
constexpr int chunk_inputs = chunk_units * unit_inputs;

// 64 bytes as whatever vectors the target has.
using Words = std::uint64_t __attribute__((vector_size(64)));

// Part of a panel as bytes and floats, small enough for the first-level cache.
struct Expanded {
  alignas(64) std::uint8_t codes[chunk_units * unit_bytes];
  // Per group, or per half unit: 16 scales, then 16 biases.
  alignas(64) float params[2 * chunk_units * 2 * panel_rows];
};

constexpr std::uint64_t each_byte(int value) {
  return 0x0101010101010101u * static_cast<std::uint64_t>(value);
}

// One plane of `Bits` of a unit: 64 * Bits bytes, eight vectors of codes.
template <int Bits, bool First>
inline void expand_plane(const std::uint8_t* in, int shift, std::uint8_t* out) {
  constexpr int together = 8 / Bits;
  const Words mask = Words{} + each_byte((1 << Bits) - 1);
  for (int p = 0; p < Bits; p++) {
    Words from;
    std::memcpy(&from, in + 64 * p, 64);
#pragma GCC unroll 8
    for (int j = 0; j < together; j++) {
      auto* at = out + (p * together + j) * 64;
      Words code = (from >> j * Bits & mask) << shift;
      if constexpr (!First) {
        Words before;
        std::memcpy(&before, at, 64);
        code |= before;
      }
      std::memcpy(at, &code, 64);
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
    case Params::f32_scale:
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
      case Params::f32_scale:
        load16(spec.params, p + std::size_t(g) * 4 * panel_rows, out);
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
  int log = std::countr_zero(static_cast<unsigned>(spec.group));
  int groups = (inputs + spec.group - 1) >> log;
  expand_params(m, panel, first_input >> log, groups, space.params);
  if (spec.group < unit_inputs && groups % 2 != 0) {
    std::fill_n(space.params + groups * 2 * panel_rows, 2 * panel_rows, 0.0f);
  }
  int shift = std::max(0, log - 5);
  return {codes, space.params, count, shift};
}

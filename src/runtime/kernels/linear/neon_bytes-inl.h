// Integer products of the ARM targets with byte dot products: values are two
// planes of signed bytes, 256 * high + low. The file defines
//   constexpr bool signed_codes: the instruction takes codes - 128; then the
//     record carries 128 * the sum of its values, a half each
//   template <int M> void sums(codes, values, bytes, int32x4_t acc[M][4]): adds
//     the products of half a unit of codes with sixteen values of M rows,
//     `bytes` apart

constexpr int extra_bytes = signed_codes ? 8 : 0;
constexpr int record = unit_inputs * 2 + extra_bytes + info_bytes;
constexpr int record_int8 = unit_inputs + extra_bytes + info_bytes;
constexpr int vectors = 4; // of 16 outputs

template <int M>
inline void sums(
    const std::uint8_t* codes,
    const std::int8_t* values,
    int bytes,
    int32x4_t (*acc)[vectors]);

void store_values(const std::int16_t* values, bool int8, std::byte* out) {
  std::int8_t low[unit_inputs], high[unit_inputs];
  std::int32_t extra[2] = {};
  for (int k = 0; k < unit_inputs; k++) {
    low[k] = static_cast<std::int8_t>(values[k]);
    high[k] = static_cast<std::int8_t>((values[k] - low[k]) >> 8);
    extra[k / 16] += 128 * values[k];
  }
  if (!int8) {
    std::memcpy(out, high, unit_inputs);
    out += unit_inputs;
  }
  std::memcpy(out, low, unit_inputs);
  std::memcpy(out + unit_inputs, extra, extra_bytes);
}

template <typename T>
inline T load_value(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

template <int M, bool Int8>
inline void half_unit(
    const std::uint8_t* codes,
    const std::byte* x,
    int half,
    int32x4_t (*acc)[vectors]) {
  constexpr int bytes = Int8 ? record_int8 : record;
  const auto* values = reinterpret_cast<const std::int8_t*>(x) + half * 16;
  for (int m = 0; m < M; m++) {
    for (int j = 0; j < vectors; j++) {
      acc[m][j] = vdupq_n_s32(0);
    }
  }
  if constexpr (!Int8) {
    sums<M>(codes, values, bytes, acc);
    for (int m = 0; m < M; m++) {
      for (int j = 0; j < vectors; j++) {
        acc[m][j] = vshlq_n_s32(acc[m][j], 8);
      }
    }
    values += unit_inputs;
  }
  sums<M>(codes, values, bytes, acc);
  if constexpr (signed_codes) {
    for (int m = 0; m < M; m++) {
      auto extra = vdupq_n_s32(load_value<std::int32_t>(
          x + (m + 1) * bytes - info_bytes - extra_bytes + 4 * half));
      for (int j = 0; j < vectors; j++) {
        acc[m][j] = vaddq_s32(acc[m][j], extra);
      }
    }
  }
}

template <int M, bool Halves, bool Int8>
void multiply(const Chunk& chunk, const std::byte* x, float* out) {
  constexpr int bytes = Int8 ? record_int8 : record;
  for (int u = 0; u < chunk.units; u++, x += M * bytes) {
    float32x4_t products[M][vectors];
    for (int half = 0; half < 2; half++) {
      int32x4_t acc[M][vectors];
      half_unit<M, Int8>(
          chunk.codes + u * unit_bytes + half * 256, x, half, acc);
      const auto* params = chunk.params +
          (Halves ? 2 * u + half : u >> chunk.shift) * 2 * panel_rows;
      for (int m = 0; m < M; m++) {
        const auto* info = x + (m + 1) * bytes - info_bytes;
        auto x_scale = vdupq_n_f32(load_value<float>(info + 4 * half));
        auto sum = vdupq_n_f32(load_value<float>(
            info + (Halves ? info_half_sum + 4 * half : info_sum)));
        for (int j = 0; j < vectors; j++) {
          auto dot = vcvtq_f32_s32(acc[m][j]);
          auto& product = products[m][j];
          product = Halves || half == 0 ? vmulq_f32(dot, x_scale)
                                        : vfmaq_f32(product, dot, x_scale);
          if (!Halves && half == 0) continue;
          auto* to = out + m * panel_rows + 4 * j;
          auto scale = vld1q_f32(params + 4 * j);
          auto bias = vld1q_f32(params + panel_rows + 4 * j);
          auto value = vfmaq_f32(vld1q_f32(to), product, scale);
          vst1q_f32(to, vfmaq_f32(value, bias, sum));
        }
      }
    }
  }
}

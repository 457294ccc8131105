// Vectors of 128 bits for the files of the ARM targets, see simd-inl.h.

struct V {
  using Ints = int32x4_t;
  using Floats = float32x4_t;
  static constexpr int lanes = 4;

  static Ints load(const void* p) {
    return vreinterpretq_s32_u8(vld1q_u8(static_cast<const std::uint8_t*>(p)));
  }
  static void store(void* p, Ints v) {
    vst1q_u8(static_cast<std::uint8_t*>(p), vreinterpretq_u8_s32(v));
  }
  static Ints zero() {
    return vdupq_n_s32(0);
  }
  static Ints each(std::int32_t bits) {
    return vdupq_n_s32(bits);
  }
  static Ints low_bytes(Ints v) {
    auto words = vreinterpretq_u16_s32(v);
    return vreinterpretq_s32_u16(vandq_u16(words, vdupq_n_u16(0xff)));
  }
  static Ints high_bytes(Ints v) {
    return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(v), 8));
  }
  // acc + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] of 16 bits
  static Ints dot16(Ints acc, Ints a, Ints b) {
    auto x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    auto low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(x, y)));
  }
  static Ints shuffle(Ints table, Ints index) {
    return vreinterpretq_s32_u8(
        vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(index)));
  }
  static Ints table(const std::uint8_t* entries) {
    return load(entries);
  }
  static Floats to_floats(Ints v) {
    return vcvtq_f32_s32(v);
  }
  static Floats load_floats(const float* p) {
    return vld1q_f32(p);
  }
  static void store_floats(float* p, Floats v) {
    vst1q_f32(p, v);
  }
  static Floats zero_floats() {
    return vdupq_n_f32(0);
  }
  static Floats each(float value) {
    return vdupq_n_f32(value);
  }
  static Floats mul(Floats a, Floats b) {
    return vmulq_f32(a, b);
  }
  static Floats add(Floats a, Floats b) {
    return vaddq_f32(a, b);
  }
  static Floats fma(Floats a, Floats b, Floats c) {
    return vfmaq_f32(c, a, b);
  }
  static Floats from_half(const void* p) {
    auto bits = vld1_u16(static_cast<const std::uint16_t*>(p));
    return vcvt_f32_f16(vreinterpret_f16_u16(bits));
  }
  static Floats from_brain(const void* p) {
    auto bits = vld1_u16(static_cast<const std::uint16_t*>(p));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
  }
};

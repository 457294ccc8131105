// Vectors of 512 bits for the files of the AVX-512 targets, see simd-inl.h.

struct V {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int lanes = 16;

  static Ints load(const void* p) {
    return _mm512_loadu_si512(p);
  }
  static void store(void* p, Ints v) {
    _mm512_storeu_si512(p, v);
  }
  static Ints zero() {
    return _mm512_setzero_si512();
  }
  static Ints each(std::int32_t bits) {
    return _mm512_set1_epi32(bits);
  }
  static Ints low_bytes(Ints v) {
    return _mm512_and_si512(v, _mm512_set1_epi16(0xff));
  }
  static Ints high_bytes(Ints v) {
    return _mm512_srli_epi16(v, 8);
  }
  // acc + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] of 16 bits
  static Ints dot16(Ints acc, Ints a, Ints b) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
  }
  static Ints shuffle(Ints table, Ints index) {
    return _mm512_shuffle_epi8(table, index);
  }
  static Ints table(const std::uint8_t* entries) {
    return _mm512_broadcast_i32x4(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
  }
  static Floats to_floats(Ints v) {
    return _mm512_cvtepi32_ps(v);
  }
  static Floats load_floats(const float* p) {
    return _mm512_loadu_ps(p);
  }
  static void store_floats(float* p, Floats v) {
    _mm512_storeu_ps(p, v);
  }
  static Floats zero_floats() {
    return _mm512_setzero_ps();
  }
  static Floats each(float value) {
    return _mm512_set1_ps(value);
  }
  static Floats mul(Floats a, Floats b) {
    return _mm512_mul_ps(a, b);
  }
  static Floats add(Floats a, Floats b) {
    return _mm512_add_ps(a, b);
  }
  static Floats fma(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static Floats from_half(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static Floats from_brain(const void* p) {
    auto bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
};

// Vectors of 256 bits for the file of the AVX2 target, see simd-inl.h.

struct V {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int lanes = 8;

  static Ints load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static void store(void* p, Ints v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), v);
  }
  static Ints zero() {
    return _mm256_setzero_si256();
  }
  static Ints each(std::int32_t bits) {
    return _mm256_set1_epi32(bits);
  }
  static Ints low_bytes(Ints v) {
    return _mm256_and_si256(v, _mm256_set1_epi16(0xff));
  }
  static Ints high_bytes(Ints v) {
    return _mm256_srli_epi16(v, 8);
  }
  // acc + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] of 16 bits
  static Ints dot16(Ints acc, Ints a, Ints b) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
  }
  static Ints shuffle(Ints table, Ints index) {
    return _mm256_shuffle_epi8(table, index);
  }
  static Ints table(const std::uint8_t* entries) {
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
  }
  static Floats to_floats(Ints v) {
    return _mm256_cvtepi32_ps(v);
  }
  static Floats load_floats(const float* p) {
    return _mm256_loadu_ps(p);
  }
  static void store_floats(float* p, Floats v) {
    _mm256_storeu_ps(p, v);
  }
  static Floats zero_floats() {
    return _mm256_setzero_ps();
  }
  static Floats each(float value) {
    return _mm256_set1_ps(value);
  }
  static Floats mul(Floats a, Floats b) {
    return _mm256_mul_ps(a, b);
  }
  static Floats add(Floats a, Floats b) {
    return _mm256_add_ps(a, b);
  }
  static Floats fma(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
  }
  static Floats from_half(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static Floats from_brain(const void* p) {
    auto bits = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
};

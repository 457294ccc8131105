// Few rows of activations times a panel with everything in registers: codes are
// unpacked and multiplied without going through memory, so that the processor
// has many more loads of weights under way at once. The sums are those of
// panel-inl.h, in the same order, bit for bit. AVX-512 with VNNI only.

// Four vectors of codes of half `Half` of a unit, `Bits` a code.
template <int Bits, int Half>
inline void unpack_half(const std::uint8_t* in, __m512i* w) {
  if constexpr (Bits == 8) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      w[v] = _mm512_loadu_si512(in + 64 * (4 * Half + v));
    }
    return;
  }
  constexpr int fours = (Bits & 4) != 0 ? 4 : 0;
  constexpr int twos = (Bits & 2) != 0 ? 2 : 0;
  if constexpr (fours != 0) {
    auto mask = _mm512_set1_epi8(15);
#pragma GCC unroll 2
    for (int p = 0; p < 2; p++) {
      auto plane = _mm512_loadu_si512(in + 64 * (2 * Half + p));
      w[2 * p] = _mm512_and_si512(plane, mask);
      w[2 * p + 1] = _mm512_and_si512(_mm512_srli_epi16(plane, 4), mask);
    }
  }
  // Bits [shift, shift + width) of each code from a plane of `width` bits.
  auto add = [&](int v, __m512i part, bool first) {
    w[v] = first ? part : _mm512_or_si512(w[v], part);
  };
  if constexpr (twos != 0) {
    auto mask = _mm512_set1_epi8(fours != 0 ? 3 << 4 : 3);
    auto plane = _mm512_loadu_si512(in + 64 * (fours + Half));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      constexpr int up = fours;
      auto moved = 2 * j >= up ? _mm512_srli_epi16(plane, 2 * j - up)
                               : _mm512_slli_epi16(plane, up - 2 * j);
      add(j, _mm512_and_si512(moved, mask), fours == 0);
    }
  }
  if constexpr ((Bits & 1) != 0) {
    constexpr int up = fours + twos;
    auto mask = _mm512_set1_epi8(1 << up);
    auto plane = _mm512_loadu_si512(in + 64 * (fours + twos));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      constexpr int first = 4 * Half;
      int at = first + j;
      auto moved = at >= up ? _mm512_srli_epi16(plane, at - up)
                            : _mm512_slli_epi16(plane, up - at);
      add(j, _mm512_and_si512(moved, mask), up == 0);
    }
  }
}

inline __m512 bytes_as_floats(const std::uint8_t* p, bool is_signed) {
  auto bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(
      is_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
}

// Scale and bias of group `g` of a panel; see Params for the layouts.
template <Params P>
inline void group_params(
    const MatrixSpec& spec,
    const std::uint8_t* p,
    int g,
    __m512& scale,
    __m512& bias) {
  auto zero = _mm512_set1_ps(static_cast<float>(spec.zero));
  if constexpr (P == Params::f16_affine) {
    scale = V::from_half(p + g * 64);
    bias = V::from_half(p + g * 64 + 32);
  } else if constexpr (P == Params::bf16_affine) {
    scale = V::from_brain(p + g * 64);
    bias = V::from_brain(p + g * 64 + 32);
  } else if constexpr (P == Params::f16_scale) {
    scale = V::from_half(p + g * 32);
    bias = _mm512_mul_ps(scale, zero);
  } else {
    int groups = 256 / spec.group;
    constexpr bool affine = P == Params::k_affine;
    int head = affine ? 4 : 2; // bytes a row of d (and dmin)
    const auto* super =
        p + g / groups * (head + (affine ? 2 : 1) * groups) * panel_rows;
    const auto* sc = super + (head + g % groups) * panel_rows;
    scale = _mm512_mul_ps(V::from_half(super), bytes_as_floats(sc, !affine));
    if constexpr (affine) {
      auto m = bytes_as_floats(sc + groups * panel_rows, false);
      auto least = V::from_half(super + 2 * panel_rows);
      bias = _mm512_mul_ps(least, _mm512_sub_ps(_mm512_setzero_ps(), m));
    } else {
      bias = _mm512_mul_ps(scale, zero);
    }
  }
}

// A tile of M rows, the first of them `row`.
template <int M, int Bits, Params P, bool Halves, bool Int8>
void direct_tile(const PanelJob& job, int row) {
  const auto& m = *job.matrix;
  const auto& spec = m.spec();
  const auto* codes = m.codes(job.panel);
  const auto* params = m.params(job.panel);
  constexpr int bytes = Int8 ? record_int8 : record;
  int units = m.units();
  const auto* x = job.x + static_cast<std::size_t>(row) * units * bytes;
  int shift = Halves ? 0 : std::countr_zero(unsigned(spec.group)) - 5;
  // The memory of this panel and the next as one stream.
  auto stride = m.panel_bytes() / units;
  const auto* ahead = codes + 4096;
  __m512 sums[M], product[M], scale, bias;
#pragma GCC unroll 8
  for (int i = 0; i < M; i++) {
    sums[i] = _mm512_setzero_ps();
  }
  for (int u = 0; u < units; u++, x += M * bytes, codes += 64 * Bits) {
    for (std::size_t i = 0; i < stride; i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T0);
    }
    ahead += stride;
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      __m512i acc[M], w[4];
      half == 0 ? unpack_half<Bits, 0>(codes, w)
                : unpack_half<Bits, 1>(codes, w);
      products<M, 4, bytes, Int8>(w, x + half * 16, acc);
      bool last = Halves || half == 1;
      if (last && (Halves || (u & ((1 << shift) - 1)) == 0)) {
        int g = Halves ? 2 * u + half : u >> shift;
        group_params<P>(spec, params, g, scale, bias);
      }
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) {
        const auto* info = x + (i + 1) * bytes - info_bytes;
        auto x_scale = _mm512_set1_ps(load_value<float>(info + 4 * half));
        auto dot = _mm512_cvtepi32_ps(acc[i]);
        product[i] = Halves || half == 0
            ? _mm512_mul_ps(dot, x_scale)
            : _mm512_fmadd_ps(dot, x_scale, product[i]);
        if (!last) continue;
        auto sum = load_value<float>(
            info + (Halves ? info_half_sum + 4 * half : info_sum));
        sums[i] = _mm512_fmadd_ps(product[i], scale, sums[i]);
        sums[i] = _mm512_fmadd_ps(bias, _mm512_set1_ps(sum), sums[i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; i++) {
    _mm512_storeu_ps(job.out + (row + i) * panel_rows, sums[i]);
  }
}

template <int Bits, Params P, bool Halves, bool Int8>
bool direct_rows(const PanelJob& job) {
  // Several rows where most models are: each is a kernel more to compile.
  constexpr bool several = !Halves && (Bits == 4 || Bits == 8);
  if constexpr (several) {
    for_tiles(job.rows, [&](auto tile, int row) {
      direct_tile<tile(), Bits, P, Halves, Int8>(job, row);
    });
    return true;
  }
  if (job.rows != 1) return false;
  direct_tile<1, Bits, P, Halves, Int8>(job, 0);
  return true;
}

template <int Bits, Params P, bool Halves>
bool run_direct(const PanelJob& job) {
  return job.int8 ? direct_rows<Bits, P, Halves, true>(job)
                  : direct_rows<Bits, P, Halves, false>(job);
}

template <Params P>
bool direct_affine(const PanelJob& job) {
  switch (job.matrix->spec().bits) {
    case 2:
      return run_direct<2, P, false>(job);
    case 3:
      return run_direct<3, P, false>(job);
    case 4:
      return run_direct<4, P, false>(job);
    case 5:
      return run_direct<5, P, false>(job);
    case 6:
      return run_direct<6, P, false>(job);
    case 8:
      return run_direct<8, P, false>(job);
    default:
      return false;
  }
}

// False: not one of the shapes that have a direct form.
bool direct(const PanelJob& job) {
  const auto& m = *job.matrix;
  const auto& spec = m.spec();
  constexpr int few = 24; // more rows share what unpacking to memory costs
  if (job.rows > few || spec.codes != Codes::unsigned_int ||
      m.cols() % unit_inputs != 0)
    return false;
  bool halves = spec.group < unit_inputs;
  switch (spec.params) {
    case Params::f16_affine:
      return !halves && direct_affine<Params::f16_affine>(job);
    case Params::bf16_affine:
      return !halves && direct_affine<Params::bf16_affine>(job);
    case Params::f16_scale:
      return !halves && direct_affine<Params::f16_scale>(job);
    case Params::k_affine:
      if (halves && spec.bits == 2)
        return run_direct<2, Params::k_affine, true>(job);
      if (!halves && spec.bits == 4)
        return run_direct<4, Params::k_affine, false>(job);
      return !halves && spec.bits == 5 &&
          run_direct<5, Params::k_affine, false>(job);
    case Params::k_scale:
      if (halves && spec.bits == 6)
        return run_direct<6, Params::k_scale, true>(job);
      return halves && spec.bits == 3 &&
          run_direct<3, Params::k_scale, true>(job);
    default:
      return false;
  }
}

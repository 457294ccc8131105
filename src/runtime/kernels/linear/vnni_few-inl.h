// Few rows of activations with the most frequent formats, straight from packed
// codes: decoding runs at the memory's speed only with few instructions a byte.

// The eight vectors of codes of a unit.
template <int Bits>
inline void load_unit(const std::uint8_t* p, __m512i* w) {
  if constexpr (Bits == 8) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++) {
      w[v] = _mm512_loadu_si512(p + 64 * v);
    }
  } else {
    static_assert(Bits == 4);
    auto low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      auto both = _mm512_loadu_si512(p + 64 * v);
      w[2 * v] = _mm512_and_si512(both, low);
      w[2 * v + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  }
}

template <Params Kind>
inline void load_group(
    const std::uint8_t* p,
    __m512 zero,
    __m512& scale,
    __m512& bias) {
  constexpr int half = panel_rows * 2; // bytes of sixteen values
  if constexpr (Kind == Params::f16_scale) {
    scale = V::from_half(p);
    bias = _mm512_mul_ps(scale, zero);
  } else if constexpr (Kind == Params::f16_affine) {
    scale = V::from_half(p);
    bias = V::from_half(p + half);
  } else {
    static_assert(Kind == Params::bf16_affine);
    scale = V::from_brain(p);
    bias = V::from_brain(p + half);
  }
}

// A tile of M rows with a whole panel.
template <int M, int Bits, Params Kind, bool Int8>
void direct_tile(const PanelJob& job, int row) {
  constexpr int bytes = Int8 ? record_int8 : record;
  constexpr int group_bytes =
      panel_rows * 2 * (Kind == Params::f16_scale ? 1 : 2);
  const auto& m = *job.matrix;
  int units = m.units();
  const auto* codes = m.codes(job.panel);
  const auto* params = m.params(job.panel);
  const auto* x = job.x + static_cast<std::size_t>(row) * units * bytes;
  int last = m.spec().group / unit_inputs - 1;
  auto zero = _mm512_set1_ps(static_cast<float>(m.spec().zero));
  __m512 sums[M];
#pragma GCC unroll 8
  for (int i = 0; i < M; i++) {
    sums[i] = _mm512_setzero_ps();
  }
  __m512 scale, bias;
  load_group<Kind>(params, zero, scale, bias);
  Ahead ahead(m, job.panel);
  for (int u = 0; u < units; u++) {
    ahead.ask(u, 1);
    if ((u & last) == 0) {
      load_group<Kind>(params, zero, scale, bias);
      params += group_bytes;
    }
    __m512i w[8], acc[M];
    load_unit<Bits>(codes, w);
    products<M, 8, bytes, Int8>(w, x, acc);
#pragma GCC unroll 8
    for (int i = 0; i < M; i++) {
      const auto* info = x + (i + 1) * bytes - info_bytes;
      auto scaled = _mm512_mul_ps(
          _mm512_cvtepi32_ps(acc[i]), _mm512_set1_ps(load_value<float>(info)));
      sums[i] = _mm512_fmadd_ps(scaled, scale, sums[i]);
      auto sum = _mm512_set1_ps(load_value<float>(info + 4));
      sums[i] = _mm512_fmadd_ps(bias, sum, sums[i]);
    }
    codes += 64 * Bits;
    x += M * bytes;
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; i++) {
    _mm512_storeu_ps(job.out + (row + i) * panel_rows, sums[i]);
  }
}

template <int Bits, Params Kind>
bool direct(const PanelJob& job) {
  for_tiles(job.rows, [&](auto tile, int row) {
    job.int8 ? direct_tile<tile(), Bits, Kind, true>(job, row)
             : direct_tile<tile(), Bits, Kind, false>(job, row);
  });
  return true;
}

template <int Bits>
bool direct(const PanelJob& job) {
  switch (job.matrix->spec().params) {
    case Params::f16_scale:
      return direct<Bits, Params::f16_scale>(job);
    case Params::f16_affine:
      return direct<Bits, Params::f16_affine>(job);
    case Params::bf16_affine:
      return direct<Bits, Params::bf16_affine>(job);
    default:
      return false;
  }
}

bool multiply_few(const PanelJob& job) {
  const auto& spec = job.matrix->spec();
  if (spec.codes != Codes::unsigned_int || spec.group < unit_inputs) {
    return false;
  }
  return spec.bits == 4 ? direct<4>(job)
      : spec.bits == 8  ? direct<8>(job)
                        : false;
}

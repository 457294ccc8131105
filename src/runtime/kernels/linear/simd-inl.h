// What the SIMD targets share, written on a struct V of vector operations that
// the including file defines first.

inline void load_f16(const std::uint8_t* p, float* out) {
  for (int r = 0; r < panel_rows; r += V::lanes) {
    V::store_floats(out + r, V::from_half(p + 2 * r));
  }
}

void lookup(const std::uint8_t* entries, std::uint8_t* unit) {
  auto table = V::table(entries);
  for (int i = 0; i < unit_bytes; i += 4 * V::lanes) {
    V::store(unit + i, V::shuffle(table, V::load(unit + i)));
  }
}

inline V::Floats load_weights(const float* w) {
  return V::load_floats(w);
}
inline V::Floats load_weights(const Half* w) {
  return V::from_half(w);
}
inline V::Floats load_weights(const Brain* w) {
  return V::from_brain(w);
}

// Even and odd inputs have a sum each, so that additions overlap.
template <int M, typename Element>
void multiply_dense(const Element* w, int inputs, const float* x, float* out) {
  for (int r = 0; r < panel_rows; r += V::lanes) {
    V::Floats even[M], odd[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      even[m] = odd[m] = V::zero_floats();
    }
    int k = 0;
    for (; k + 1 < inputs; k += 2) {
      auto a = load_weights(w + k * panel_rows + r);
      auto b = load_weights(w + (k + 1) * panel_rows + r);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) {
        even[m] = V::fma(a, V::each(x[k * M + m]), even[m]);
        odd[m] = V::fma(b, V::each(x[(k + 1) * M + m]), odd[m]);
      }
    }
    if (k < inputs) {
      auto a = load_weights(w + k * panel_rows + r);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) {
        even[m] = V::fma(a, V::each(x[k * M + m]), even[m]);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      auto* to = out + m * panel_rows + r;
      V::store_floats(to, V::add(V::load_floats(to), V::add(even[m], odd[m])));
    }
  }
}

// Integer products by 16-bit multiply-add, for targets without byte dot
// products: codes are widened to 16 bits, values are the 16 bits as they are,
// inputs in the order 0, 2, 1, 3 of each four, so that the even and odd bytes
// of a vector meet their own.

constexpr int record = unit_inputs * 2 + info_bytes;

void store_values(const std::int16_t* values, bool, std::byte* out) {
  std::int16_t ordered[unit_inputs];
  for (int k = 0; k < unit_inputs; k += 4) {
    ordered[k] = values[k];
    ordered[k + 1] = values[k + 2];
    ordered[k + 2] = values[k + 1];
    ordered[k + 3] = values[k + 3];
  }
  std::memcpy(out, ordered, sizeof(ordered));
}

inline std::int32_t load_pair(const std::byte* p) {
  std::int32_t pair;
  std::memcpy(&pair, p, sizeof(pair));
  return pair;
}

inline float load_float(const std::byte* p) {
  float value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

template <int M, bool Halves, bool Int8>
void multiply(const Chunk& chunk, const std::byte* x, float* out) {
  constexpr int vectors = 4; // of half a unit
  for (int u = 0; u < chunk.units; u++) {
    const auto* at = x + static_cast<std::size_t>(u) * M * record;
    for (int r = 0; r < panel_rows; r += V::lanes) {
      V::Floats products[M];
      for (int half = 0; half < 2; half++) {
        const auto* codes =
            chunk.codes + u * unit_bytes + half * vectors * 64 + r * 4;
        V::Ints sums[M];
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
          sums[m] = V::zero();
        }
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
          auto w = V::load(codes + v * 64);
          auto even = V::low_bytes(w), odd = V::high_bytes(w);
#pragma GCC unroll 8
          for (int m = 0; m < M; m++) {
            const auto* pairs = at + m * record + (half * vectors + v) * 8;
            sums[m] = V::dot16(sums[m], even, V::each(load_pair(pairs)));
            sums[m] = V::dot16(sums[m], odd, V::each(load_pair(pairs + 4)));
          }
        }
        const auto* params = chunk.params + r +
            (Halves ? 2 * u + half : u >> chunk.shift) * 2 * panel_rows;
        auto scale = V::load_floats(params);
        auto bias = V::load_floats(params + panel_rows);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
          const auto* info = at + m * record + unit_inputs * 2;
          auto x_scale = V::each(load_float(info + 4 * half));
          auto product = V::to_floats(sums[m]);
          products[m] = Halves || half == 0
              ? V::mul(product, x_scale)
              : V::fma(product, x_scale, products[m]);
          if (!Halves && half == 0) continue;
          auto sum = V::each(load_float(
              info + (Halves ? info_half_sum + 4 * half : info_sum)));
          auto* to = out + m * panel_rows + r;
          auto value = V::fma(products[m], scale, V::load_floats(to));
          V::store_floats(to, V::fma(bias, sum, value));
        }
      }
    }
  }
}

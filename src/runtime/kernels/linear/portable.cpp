// The target for any processor: plain C++, also what the others are tested
// against.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "runtime/kernels/linear/floats.h"
#include "runtime/kernels/linear/target.h"

namespace mlxlm::kernels {
namespace {

constexpr int most_tile = 4;

#include "runtime/kernels/linear/target-inl.h"

constexpr int record = unit_inputs * 2 + info_bytes;

inline void load_f16(const std::uint8_t* p, float* out) {
  for (int r = 0; r < panel_rows; r++) {
    std::uint16_t bits;
    std::memcpy(&bits, p + 2 * r, 2);
    out[r] = from_f16(bits);
  }
}

void lookup(const std::uint8_t* table, std::uint8_t* unit) {
  for (int i = 0; i < unit_bytes; i++) {
    unit[i] = table[unit[i]];
  }
}

void store_values(const std::int16_t* values, bool, std::byte* out) {
  std::memcpy(out, values, unit_inputs * 2);
}

#include "runtime/kernels/linear/panel-inl.h"

// Sixteen inputs of one row: four vectors of codes.
inline std::int32_t dot_half(
    const std::uint8_t* codes,
    const std::int16_t* values) {
  std::int32_t dot = 0;
  for (int k = 0; k < 16; k++) {
    dot += codes[k / 4 * 64 + k % 4] * values[k];
  }
  return dot;
}

template <int M, bool Halves, bool Int8>
void multiply(const Chunk& chunk, const std::byte* x, float* out) {
  for (int m = 0; m < M; m++) {
    for (int u = 0; u < chunk.units; u++) {
      std::int16_t values[unit_inputs];
      UnitInfo info;
      const auto* at = x + (std::size_t(u) * M + m) * record;
      std::memcpy(values, at, sizeof(values));
      std::memcpy(&info, at + sizeof(values), sizeof(info));
      for (int r = 0; r < panel_rows; r++) {
        float* to = out + m * panel_rows + r;
        float products[2];
        for (int half = 0; half < 2; half++) {
          products[half] = info.scale[half] *
              static_cast<float>(dot_half(
                  chunk.codes + u * unit_bytes + half * 256 + r * 4,
                  values + half * 16));
        }
        auto at_params = chunk.params + r +
            (Halves ? 2 * u : u >> chunk.shift) * 2 * panel_rows;
        if constexpr (Halves) {
          for (int half = 0; half < 2; half++, at_params += 2 * panel_rows) {
            *to += products[half] * at_params[0];
            *to += at_params[panel_rows] * info.half_sum[half];
          }
        } else {
          *to += (products[0] + products[1]) * at_params[0];
          *to += at_params[panel_rows] * info.sum;
        }
      }
    }
  }
}

inline float value(float w) {
  return w;
}
inline float value(Half w) {
  return from_f16(w.bits);
}
inline float value(Brain w) {
  return from_bf16(w.bits);
}

template <int M, typename Element>
void multiply_dense(const Element* w, int inputs, const float* x, float* out) {
  for (int m = 0; m < M; m++) {
    float sums[panel_rows] = {};
    for (int k = 0; k < inputs; k++) {
      for (int r = 0; r < panel_rows; r++) {
        sums[r] += value(w[k * panel_rows + r]) * x[k * M + m];
      }
    }
    for (int r = 0; r < panel_rows; r++) {
      out[m * panel_rows + r] += sums[r];
    }
  }
}

bool supported() {
  return true;
}

} // namespace

const Target portable_target = {
    "portable",
    supported,
    record,
    record,
    most_tile,
    quantize<record, record>,
    panel<record, record>,
    gate};

} // namespace mlxlm::kernels

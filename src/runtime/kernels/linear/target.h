// One instruction set's kernels behind a table. Every target multiplies in the
// same fixed order for one row and for many.
//
// Rows of activations come in tiles of `most_tile`, 4, 2 and 1 rows, in that
// order, one after the other; in a tile the rows' parts of a unit lie side by
// side.
//
// A product with integer codes reads activations as records: for each unit of
// 32 inputs the quantized values in the target's own order, then UnitInfo. The
// values are 16 bits (one byte with Activations::int8), scaled per half unit.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/kernels/linear.h"
#include "runtime/kernels/linear/packed.h"

namespace mlxlm::kernels {

// Of one unit: the scales of the quantized values of its inputs 0..15 and
// 16..31 (of both halves together an input far larger than the others, as
// SwiGLU makes them, would cost twice as many others their accuracy), and the
// sums of the values times their scales.
struct UnitInfo {
  float scale[2];
  float sum;
  float half_sum[2];
};
constexpr int info_sum = 8; // bytes before UnitInfo::sum
constexpr int info_half_sum = 12;

constexpr int most_quantized =
    127 * 256 + 127; // two signed bytes: 256 * high + low

// A product of panels, one after the other, with some rows of activations.
struct PanelJob {
  const Packed* matrix;
  std::size_t panel; // the first
  int panels = 1;
  // Tiles of records, or for matrices with float codes of f32, [cols][rows of
  // tile].
  const std::byte* x;
  int rows;
  bool int8;
  float* out; // [panels][rows][16]
};

struct Target {
  const char* name;
  bool (*supported)();
  int record_bytes;
  int record_bytes_int8;
  int most_tile;
  // Records of one row, `stride` bytes apart; inputs beyond `cols` are zero.
  void (*quantize)(
      const float* x,
      int cols,
      bool int8,
      std::byte* out,
      std::size_t stride);
  void (*panel)(const PanelJob& job);
  // gate[i] = act(gate[i]) * up[i]
  void (*gate)(Activation act, float* gate, const float* up, int count);
};

// Rows of the tile that begins when `left` rows are to come.
inline int tile_rows(int left, int most_tile) {
  return left >= most_tile ? most_tile : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// Whether a matrix multiplies f32 activations (dense and float codes).
inline bool multiplies_floats(const Packed& matrix) {
  return matrix.spec().dense() || matrix.spec().codes == Codes::e4m3;
}

// The best target of this processor, or the one set.
const Target& target();
// Those this processor runs, best first.
std::vector<std::string> target_names();
// For tests and benchmarks; throws Error(config) for a name that is not among
// them.
void set_target(std::string_view name);

extern const Target portable_target;
#if defined(__x86_64__)
extern const Target avx512_vnni_target;
extern const Target avx512_target;
extern const Target avx2_target;
#elif defined(__aarch64__)
extern const Target neon_i8mm_target;
extern const Target neon_dot_target;
extern const Target neon_target;
#endif

} // namespace mlxlm::kernels

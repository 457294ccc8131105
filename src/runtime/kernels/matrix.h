// Weight matrices as the CPU kernels hold them: repacked once at load into a
// layout whose SIMD lanes are output rows, so that one row and many rows of
// activations reduce in the same order. The layout is private to this folder
// and has an exact inverse: what `Matrix::row` gives back is what
// `RowSource::row` gave, bit for bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace mlxlm::kernels {

// How the elements of a matrix are coded.
enum class Codes : std::uint8_t {
  f32,
  f16,
  bf16, // dense, no groups
  unsigned_int, // code q in [0, 2^bits): scale * q + bias
  table, // 4-bit index into `MatrixSpec::table`: scale * table[q]
  e4m3, // 8-bit float (mxfp8): scale * float(q)
};

// The parameters of one row are stored group after group, little-endian.
enum class Params : std::uint8_t {
  none, // dense
  f32_affine, // f32 scale, f32 bias
  f16_affine, // f16 scale, f16 bias             (also Q4_1, Q5_1)
  bf16_affine, // bf16 scale, bf16 bias
  f16_scale, // f16 scale; code q means scale * (q + zero)  (Q4_0, Q5_0, Q8_0,
             // TQ2_0)
  e8m0_scale, // u8: 2^(x - 127)                 (mxfp4, mxfp8)
  e4m3_scale, // u8: fp8 e4m3                    (nvfp4)
  k_affine, // per 256 inputs: f16 d, f16 dmin, then per group u8 sc, then per
            // group u8 m: scale = d * sc, bias = -dmin * m      (Q2_K, Q4_K,
            // Q5_K)
  k_scale, // per 256 inputs: f16 d, then per group i8 sc: scale = d * sc, code
           // q means scale * (q + zero)        (Q3_K, Q6_K, IQ4_XS)
  f32_scale, // f32                            (fp8 blocks)
};

struct MatrixSpec {
  Codes codes = Codes::f32;
  int bits = 32;
  int group =
      0; // inputs that share a scale: 16, 32, 64, 128 (256: TQ2_0); 0: dense
  Params params = Params::none;
  int zero = 0; // for f16_scale and k_scale, e.g. -8
  std::array<std::int8_t, 16> table{}; // for Codes::table
  bool half =
      false; // table[q] stands for table[q] / 2 (e2m1: 0 .5 1 1.5 2 3 4 6)

  bool dense() const {
    return params == Params::none;
  }
  // Bytes of one row's parameters for `cols` inputs.
  std::size_t param_bytes(int cols) const;
  bool operator==(const MatrixSpec&) const = default;
};

// One row in the plain form. Dense: `codes` holds the elements' bytes (4 or 2 a
// value) and `params` is empty; otherwise one byte a code.
struct Row {
  std::span<std::uint8_t> codes;
  std::span<std::byte> params;
};

// Where rows come from while packing; called from several threads, each row
// once.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual void row(int index, Row out) const = 0;
  // The same of a row whose 4-bit codes need no taking apart: nibbles 2j and
  // 2j + 1 of word w are the codes of inputs 8w + j and 8w + 4 + j. False where
  // rows are not stored so; then it is for all of them.
  virtual bool words(
      int index,
      std::span<std::uint32_t> codes,
      std::span<std::byte> params) const {
    return false;
  }
  // Rows before `index` have all been read: their pages may go.
  virtual void done(int index) const {}
};

// A packed matrix, or `experts` of them stacked: [experts * rows, cols].
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual const MatrixSpec& spec() const = 0;
  virtual int rows() const = 0; // outputs (of one expert)
  virtual int cols() const = 0; // inputs
  virtual int experts() const = 0; // 1 unless stacked
  virtual std::size_t bytes() const = 0;
  // The plain form of row `index` of experts * rows. Exact inverse of packing.
  virtual void row(int index, Row out) const = 0;
  // Row `index` as floats, out[cols].
  virtual void dequantize(int index, std::span<float> out) const = 0;
};
using MatrixPtr = std::shared_ptr<const Matrix>;

// Packs for this processor. Throws Error(weights) for a spec or shape that
// cannot be held; `where` names the tensor.
MatrixPtr pack(
    const MatrixSpec& spec,
    int rows,
    int cols,
    int experts,
    const RowSource& source,
    std::string_view where);

} // namespace mlxlm::kernels

// The codecs of packed pages in plain MLX operations: what the SIMD kernels are
// tested against, and what devices without such kernels run.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <vector>

#include "runtime/kernels/attention/row_codec.h"
#include "runtime/kernels/attention/turbo.h"

namespace mlxlm::kernels::reference {

namespace mx = mlx::core;

// seeds of rotations
constexpr std::uint32_t key_seed = 42, value_seed = 43;

class RowCoder {
 public:
  // Rows of `dim` values; type: of plain rows and of affine scales.
  RowCoder(const RowCodec& codec, int dim, mx::Dtype type, std::uint32_t seed);

  int arrays() const; // that encode gives
  // x [..., dim] -> arrays [..., w] that hold it.
  std::vector<mx::array> encode(const mx::array& x) const;
  // The rows again, float32.
  mx::array decode(const std::vector<mx::array>& coded) const;
  // The same of turbo rows that are rotated, which is float32, and the rotation
  // and back.
  std::vector<mx::array> encode_rotated(const mx::array& y, TurboNorm norm)
      const;
  // What encode_rotated packs: codes and signs an uint32 each.
  std::vector<mx::array> codes_of_rotated(const mx::array& y, TurboNorm norm)
      const;
  std::vector<mx::array> packed(std::vector<mx::array> codes) const;
  mx::array decode_rotated(const std::vector<mx::array>& coded) const;
  // Without the sketch.
  mx::array codebook_part(const std::vector<mx::array>& coded) const;
  mx::array codebook_part_of(const std::vector<mx::array>& codes) const;
  mx::array rotated(const mx::array& x) const;
  mx::array turned_back(const mx::array& y) const;

 private:
  std::vector<mx::array> encode_affine(const mx::array& x) const;
  int code_bits() const; // of a direction, without the sketch
  mx::array centroids_of(const mx::array& codes) const;
  std::vector<mx::array> sketched(const mx::array& y, const mx::array& norm)
      const;
  mx::array decode_affine(const std::vector<mx::array>& coded) const;
  mx::array decode_direction(const std::vector<mx::array>& coded) const;
  mx::array codes_of(const mx::array& y) const;
  mx::array looked_up(const mx::array& codes) const;

  RowCodec codec_;
  int dim_, padded_; // padded_: whole groups
  mx::Dtype type_;
  std::shared_ptr<const TurboState> turbo_;
  mx::array rotation_; // [dim, dim]: y = x @ rotation
};

// codes [..., n] -> one little-endian bit stream a row, uint32
// [..., ceil(n * bits / 32)], and back.
mx::array pack_bits(const mx::array& codes, int bits);
mx::array unpack_bits(const mx::array& words, int bits, int n);
// All codes in a row, floor(32 / bits) to a word, lowest bits first: the other
// packing in use. n codes come back.
mx::array pack_words(const mx::array& codes, int bits);
mx::array unpack_words(const mx::array& words, int bits, int n);

} // namespace mlxlm::kernels::reference

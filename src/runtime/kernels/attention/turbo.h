// TurboQuant of one row (arXiv 2504.19874): its norm, and the direction rotated
// and quantized coordinate by coordinate with a Lloyd-Max codebook; for
// unbiased inner products also the signs of a random projection of what the
// codebook leaves.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/kernels/attention/rotation.h"

namespace mlxlm::kernels {

// What a direction is multiplied by before it is coded; a tenth less error.
inline constexpr std::array turbo_lengths{0.9f, 0.95f, 1.0f, 1.05f, 1.1f};

// What encoding and decoding share.
struct TurboState {
  Rotation rotation;
  std::vector<float> centroids; // 2^bits, ascending
  std::vector<float> projection; // [dim, dim], empty: no sketch
  std::vector<float> limits = {}; // midpoints of the centroids

  TurboState(
      Rotation rotation,
      std::vector<float> centroids,
      std::vector<float> projection = {});
  // For `bits` a coordinate, of which the sketch takes one.
  TurboState(int dim, int bits, std::uint32_t seed, bool sketch);
  int dim() const {
    return rotation.dim();
  }
};

struct TurboRow {
  std::uint8_t* codes; // [dim]
  float norm = 0;
  std::uint8_t* signs = nullptr; // [dim], 1: positive; with a sketch only
  float residual = 0;
};

// x [dim]; scratch: 2 * dim floats.
void turbo_encode(
    const TurboState& state,
    const float* x,
    TurboRow& row,
    float* scratch);
void turbo_decode(
    const TurboState& state,
    const TurboRow& row,
    float* x,
    float* scratch);
// Of rows that are rotated already, as pages keep them; y [dim] is overwritten.
// Without a sketch the direction is coded a little longer and shorter too
// (turbo_lengths), and what is nearest is kept.
enum class TurboNorm : std::uint8_t {
  least, // of the smallest error
  product // a row's product with itself comes out right: keys
};
void turbo_encode_rotated(
    const TurboState& state,
    float* y,
    TurboRow& row,
    float* scratch,
    TurboNorm norm);
void turbo_decode_rotated(
    const TurboState& state,
    const TurboRow& row,
    float* y,
    float* scratch);

// What a unit of a sign adds to a row of residual norm 1.
float sketch_step(int dim); // sqrt(pi / 2) / dim

// out = S x for row-major S [n, n]; out = S^T x.
void project(const std::vector<float>& s, const float* x, int n, float* out);
void project_back(
    const std::vector<float>& s,
    const float* x,
    int n,
    float* out);

} // namespace mlxlm::kernels

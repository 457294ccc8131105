// From plain rows of codes and parameters to MLX's quantized layout.

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/values.h"
#include "core/check.h"
#include "weights/kernels.h"

namespace mlxlm {
namespace {

using kernels::Codes;
using kernels::MatrixSpec;
using kernels::Params;

constexpr std::array<std::int8_t, 16> e2m1 =
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

template <typename T>
T load(const std::byte* at) {
  T out;
  std::memcpy(&out, at, sizeof(T));
  return out;
}

float half_at(const std::byte* at) {
  return half_to_float(load<std::uint16_t>(at));
}

// Scale and bias of group `g` of a row.
std::pair<float, float> affine(const MatrixSpec& s, const std::byte* p, int g) {
  const int per = 256 / s.group; // groups of a super-block
  switch (s.params) {
    case Params::f32_affine:
      return {load<float>(p + 8 * g), load<float>(p + 8 * g + 4)};
    case Params::f16_affine:
      return {half_at(p + 4 * g), half_at(p + 4 * g + 2)};
    case Params::bf16_affine:
      return {
          bfloat_to_float(load<std::uint16_t>(p + 4 * g)),
          bfloat_to_float(load<std::uint16_t>(p + 4 * g + 2))};
    case Params::f16_scale: {
      const float d = half_at(p + 2 * g);
      return {d, d * static_cast<float>(s.zero)};
    }
    case Params::f32_scale: {
      const float d = load<float>(p + 4 * g);
      return {d, d * static_cast<float>(s.zero)};
    }
    case Params::k_affine: {
      const auto* block = p + g / per * (4 + 2 * per);
      const float d = half_at(block), dmin = half_at(block + 2);
      const auto sc = load<std::uint8_t>(block + 4 + g % per);
      const auto m = load<std::uint8_t>(block + 4 + per + g % per);
      return {d * static_cast<float>(sc), -dmin * static_cast<float>(m)};
    }
    case Params::k_scale: {
      const auto* block = p + g / per * (2 + per);
      const float scale = half_at(block) *
          static_cast<float>(load<std::int8_t>(block + 2 + g % per));
      return {scale, scale * static_cast<float>(s.zero)};
    }
    default:
      fail(
          ErrorKind::internal,
          "mlx_form",
          "expected affine parameters, found others");
  }
}

// Codes as one stream of bits, lowest first: MLX's layout for every width.
void pack_bits(
    std::span<const std::uint8_t> codes,
    int bits,
    std::uint32_t* out) {
  std::uint64_t buffer = 0;
  int filled = 0;
  for (auto code : codes) {
    buffer |= static_cast<std::uint64_t>(code) << filled;
    filled += bits;
    if (filled >= 32) {
      *out++ = static_cast<std::uint32_t>(buffer);
      buffer >>= 32;
      filled -= 32;
    }
  }
}

mx::Shape shape_of(const EncodedMatrix& m, int last) {
  if (m.stacked) return {m.experts, m.rows, last};
  return {m.rows, last};
}

// f16 when that loses nothing, else f32.
mx::array smallest(const std::vector<float>& values, const mx::Shape& shape) {
  auto full = mx::array(values.data(), shape, mx::float32);
  auto half = mx::astype(full, mx::float16);
  auto same = mx::array_equal(mx::astype(half, mx::float32), full);
  return same.item<bool>() ? half : full;
}

struct Plan {
  std::string mode;
  int group;
};

std::optional<Plan> plan(const MatrixSpec& s) {
  const bool e2 = s.codes == Codes::table && s.table == e2m1 && s.half;
  if (e2 && s.params == Params::e8m0_scale && s.group == 32)
    return Plan{"mxfp4", 32};
  if (e2 && s.params == Params::e4m3_scale && s.group == 16)
    return Plan{"nvfp4", 16};
  if (s.codes == Codes::e4m3 && s.params == Params::e8m0_scale && s.group == 32)
    return Plan{"mxfp8", 32};
  if (s.codes != Codes::unsigned_int || s.bits == 7 || s.bits < 2)
    return std::nullopt;
  if (s.group == 32 || s.group == 64 || s.group == 128)
    return Plan{"affine", s.group};
  if (s.group == 256) return Plan{"affine", 128}; // each scale twice
  return std::nullopt;
}

// Codes packed, parameters as scales and biases or as the bytes they are.
struct Parts {
  std::vector<std::uint32_t> words;
  std::vector<float> scales, biases;
  std::vector<std::uint8_t> raw_scales;
};

Parts read_parts(const EncodedMatrix& m, const Plan& plan) {
  const auto rows =
      static_cast<std::size_t>(m.rows) * static_cast<std::size_t>(m.experts);
  const auto cols = static_cast<std::size_t>(m.cols);
  const auto words = cols * static_cast<std::size_t>(m.spec.bits) / 32;
  const int repeat = m.spec.group / plan.group;
  std::vector<std::uint8_t> codes(cols);
  std::vector<std::byte> params(m.spec.param_bytes(m.cols));
  Parts out;
  out.words.resize(rows * words);
  for (std::size_t r = 0; r < rows; ++r) {
    m.source->row(static_cast<int>(r), {codes, params});
    pack_bits(codes, m.spec.bits, out.words.data() + r * words);
    for (int g = 0; g < m.cols / plan.group; ++g) {
      if (plan.mode != "affine") {
        out.raw_scales.push_back(
            std::to_integer<std::uint8_t>(params[static_cast<std::size_t>(g)]));
        continue;
      }
      auto [scale, bias] = affine(m.spec, params.data(), g / repeat);
      out.scales.push_back(scale);
      out.biases.push_back(bias);
    }
  }
  m.source->done(static_cast<int>(rows));
  return out;
}

} // namespace

std::optional<MlxPacking> mlx_packing(const EncodedMatrix& m) {
  auto plan = mlxlm::plan(m.spec);
  if (!plan || m.framed() || m.cols % plan->group != 0 ||
      std::int64_t{m.cols} * m.spec.bits % 32 != 0)
    return std::nullopt;
  return MlxPacking{plan->mode, plan->group, m.spec.bits};
}

std::optional<MlxForm> mlx_form(const EncodedMatrix& m) {
  auto plan = mlxlm::plan(m.spec);
  const auto row_bits = std::int64_t{m.cols} * m.spec.bits;
  if (!plan || m.cols % plan->group != 0 || row_bits % 32 != 0)
    return std::nullopt;
  auto parts = read_parts(m, *plan);
  const auto groups = shape_of(m, m.cols / plan->group);
  mx::array weight(
      parts.words.data(),
      shape_of(m, static_cast<int>(row_bits / 32)),
      mx::uint32);
  if (plan->mode != "affine")
    return MlxForm{
        weight,
        mx::array(parts.raw_scales.data(), groups, mx::uint8),
        std::nullopt,
        plan->group,
        m.spec.bits,
        plan->mode};
  auto typed = [&](const std::vector<float>& values) {
    if (m.spec.params != Params::bf16_affine) return smallest(values, groups);
    auto full = mx::array(values.data(), groups, mx::float32);
    return mx::astype(full, mx::bfloat16);
  };
  auto s = typed(parts.scales), b = typed(parts.biases);
  if (s.dtype() != b.dtype()) {
    s = mx::astype(s, mx::float32);
    b = mx::astype(b, mx::float32);
  }
  mx::eval(s, b);
  return MlxForm{weight, s, b, plan->group, m.spec.bits, plan->mode};
}

} // namespace mlxlm

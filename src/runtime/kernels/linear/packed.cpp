#include "runtime/kernels/linear/packed.h"

#include <algorithm>

#include "core/check.h"
#include "runtime/kernels/linear/floats.h"
#include "runtime/kernels/linear/huge_pages.h"
#include "runtime/kernels/linear/transpose.h"

namespace mlxlm::kernels {
namespace {

using Word = std::uint64_t; // eight codes at a time
constexpr int vector_words = 8;

constexpr Word each_byte(int value) {
  return 0x0101010101010101u * static_cast<Word>(value);
}

// Splits the eight vectors of a unit into the planes of `bits`.
void split_planes(int bits, const Word* codes, Word* out) {
  if (bits == 8) {
    std::copy_n(codes, 8 * vector_words, out);
    return;
  }
  int shift = 0;
  for (int plane : {4, 2, 1}) {
    if ((bits & plane) == 0) {
      continue;
    }
    int together = 8 / plane; // vectors in a plane vector
    auto mask = each_byte((1 << plane) - 1);
    for (int v = 0; v < 8; v += together) {
      for (int w = 0; w < vector_words; w++) {
        Word sum = 0;
        for (int j = 0; j < together; j++) {
          sum |= (codes[(v + j) * vector_words + w] >> shift & mask)
              << plane * j;
        }
        *out++ = sum;
      }
    }
    shift += plane;
  }
}

// The 32 codes of row `lane` in a packed unit.
void lane_codes(
    int bits,
    const std::uint8_t* unit,
    int lane,
    std::uint8_t* out) {
  std::fill_n(out, unit_inputs, std::uint8_t{0});
  int shift = 0;
  for (int plane : {8, 4, 2, 1}) {
    if ((bits & plane) == 0) {
      continue;
    }
    int together = 8 / plane;
    for (int k = 0; k < unit_inputs; k++) {
      int v = k / 4;
      auto byte = unit[v / together * 64 + lane * 4 + k % 4];
      auto code = byte >> v % together * plane & ((1 << plane) - 1);
      out[k] = static_cast<std::uint8_t>(out[k] | code << shift);
    }
    unit += 64 * plane;
    shift += plane;
  }
}

// One element of a parameter or a dense row.
inline void copy_element(void* to, const void* from, int size) {
  switch (size) {
    case 1:
      std::memcpy(to, from, 1);
      break;
    case 2:
      std::memcpy(to, from, 2);
      break;
    default:
      std::memcpy(to, from, 4);
  }
}

std::uint16_t u16(const std::byte* p) {
  std::uint16_t value;
  std::memcpy(&value, p, 2);
  return value;
}
float f32(const std::byte* p) {
  float value;
  std::memcpy(&value, p, 4);
  return value;
}
std::uint8_t u8(const std::byte* p) {
  return static_cast<std::uint8_t>(*p);
}

struct Affine {
  float scale = 1;
  float bias = 0; // used by the affine formats only
};

// Scale and bias of one group from one row's plain parameters.
Affine group_params(const MatrixSpec& spec, const std::byte* p, int group) {
  int groups = 256 / std::max(spec.group, 1);
  switch (spec.params) {
    case Params::f32_affine:
      return {f32(p + 8 * group), f32(p + 8 * group + 4)};
    case Params::f16_affine:
      return {from_f16(u16(p + 4 * group)), from_f16(u16(p + 4 * group + 2))};
    case Params::bf16_affine:
      return {from_bf16(u16(p + 4 * group)), from_bf16(u16(p + 4 * group + 2))};
    case Params::f16_scale:
      return {from_f16(u16(p + 2 * group))};
    case Params::f32_scale:
      return {f32(p + 4 * group)};
    case Params::e8m0_scale:
      return {from_e8m0(u8(p + group))};
    case Params::e4m3_scale:
      return {from_e4m3(u8(p + group))};
    case Params::k_affine: {
      p += group / groups * (4 + 2 * groups);
      group %= groups;
      return {
          from_f16(u16(p)) * u8(p + 4 + group),
          -from_f16(u16(p + 2)) * u8(p + 4 + groups + group)};
    }
    case Params::k_scale: {
      p += group / groups * (2 + groups);
      auto sc = static_cast<std::int8_t>(u8(p + 2 + group % groups));
      return {from_f16(u16(p)) * static_cast<float>(sc)};
    }
    case Params::none:
      break;
  }
  return {};
}

bool affine(Params params) {
  return params == Params::f32_affine || params == Params::f16_affine ||
      params == Params::bf16_affine || params == Params::k_affine;
}

float value_of(const MatrixSpec& spec, Affine a, std::uint8_t q) {
  if (spec.codes == Codes::table) {
    return a.scale * static_cast<float>(spec.table[q & 15]) *
        (spec.half ? 0.5f : 1);
  }
  if (spec.codes == Codes::e4m3) {
    return a.scale * from_e4m3(q);
  }
  return affine(spec.params) ? a.scale * q + a.bias
                             : a.scale * static_cast<float>(q + spec.zero);
}

void dense_values(Codes codes, const std::uint8_t* row, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); i++) {
    auto* p = reinterpret_cast<const std::byte*>(row);
    out[i] = codes == Codes::f32 ? f32(p + 4 * i)
        : codes == Codes::f16    ? from_f16(u16(p + 2 * i))
                                 : from_bf16(u16(p + 2 * i));
  }
}

std::size_t align64(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

} // namespace

int element_bytes(Codes codes) {
  return codes == Codes::f32                        ? 4
      : codes == Codes::f16 || codes == Codes::bf16 ? 2
                                                    : 1;
}

ParamPattern param_pattern(const MatrixSpec& spec) {
  auto super = [&](std::vector<int> head, int copies) {
    head.insert(
        head.end(), static_cast<std::size_t>(copies) * 256 / spec.group, 1);
    return ParamPattern{std::move(head), 256};
  };
  switch (spec.params) {
    case Params::none:
      return {};
    case Params::f32_affine:
      return {{4, 4}, spec.group};
    case Params::f16_affine:
    case Params::bf16_affine:
      return {{2, 2}, spec.group};
    case Params::f16_scale:
      return {{2}, spec.group};
    case Params::f32_scale:
      return {{4}, spec.group};
    case Params::e8m0_scale:
    case Params::e4m3_scale:
      return {{1}, spec.group};
    case Params::k_affine:
      return super({2, 2}, 2);
    case Params::k_scale:
      return super({2}, 1);
  }
  return {};
}

std::size_t MatrixSpec::param_bytes(int cols) const {
  auto pattern = param_pattern(*this);
  std::size_t bytes = 0;
  for (int size : pattern.sizes) {
    bytes += size;
  }
  return bytes * (cols / pattern.period);
}

Packed::Packed(const MatrixSpec& spec, int rows, int cols, int experts)
    : spec_(spec),
      pattern_(param_pattern(spec)),
      rows_(rows),
      cols_(cols),
      experts_(experts),
      row_params_(spec.param_bytes(cols)) {
  code_bytes_ = spec.dense()
      ? std::size_t(cols) * panel_rows * element_bytes(spec.codes)
      : std::size_t(units()) * 64 * spec.bits;
  panel_stride_ = align64(code_bytes_ + panel_rows * row_params());
  data_ = allocate_weights(bytes());
}

std::size_t Packed::row_code_bytes() const {
  return std::size_t(cols_) * element_bytes(spec_.codes);
}

void Packed::fill(
    std::size_t panel,
    const std::uint8_t* codes,
    const std::byte* params) {
  auto* out = const_cast<std::uint8_t*>(this->codes(panel));
  auto stride = row_code_bytes();
  if (spec_.dense()) {
    transpose(element_bytes(spec_.codes), codes, stride, cols_, out);
    return;
  }
  if (spec_.bits == 8 && cols_ % unit_inputs == 0) {
    transpose(4, codes, stride, stride / 4, out);
    fill_params(panel, params);
    return;
  }
  for (int u = 0; u < units(); u++) {
    alignas(64) std::uint8_t unit[unit_bytes] = {};
    auto first = std::size_t(u) * unit_inputs;
    auto inputs = std::min<std::size_t>(unit_inputs, cols_ - first);
    transpose(4, codes + first, stride, inputs / 4, unit);
    Word words[unit_bytes / sizeof(Word)];
    std::memcpy(words, unit, unit_bytes);
    Word planes[unit_bytes / sizeof(Word)];
    split_planes(spec_.bits, words, planes);
    std::memcpy(
        out + std::size_t(u) * 64 * spec_.bits, planes, 64 * spec_.bits);
  }
  fill_params(panel, params);
}

void Packed::fill_words(
    std::size_t panel,
    const std::uint32_t* words,
    const std::byte* params) {
  auto* out = const_cast<std::uint8_t*>(codes(panel));
  transpose(4, words, row_words() * 4, row_words(), out);
  fill_params(panel, params);
}

void Packed::fill_params(std::size_t panel, const std::byte* params) {
  auto* to = const_cast<std::uint8_t*>(this->params(panel));
  auto used = panel_rows * row_params_;
  std::memset(to + used, 0, panel_stride_ - code_bytes_ - used);
  int size = pattern_.sizes[0];
  auto other = [&](int each) { return each != size; };
  if (std::none_of(pattern_.sizes.begin(), pattern_.sizes.end(), other)) {
    transpose(size, params, row_params_, row_params_ / size, to);
    return;
  }
  std::size_t offset = 0;
  for (int i = 0; i < cols_; i += pattern_.period) {
    for (int each : pattern_.sizes) {
      for (int r = 0; r < panel_rows; r++) {
        copy_element(
            to + offset * panel_rows + r * each,
            params + r * row_params_ + offset,
            each);
      }
      offset += each;
    }
  }
}

void Packed::row(int index, Row out) const {
  MLXLM_CHECK(
      index >= 0 && index < rows_ * experts_ &&
          out.codes.size() == row_code_bytes() &&
          out.params.size() == row_params(),
      "row of a packed matrix");
  auto panel =
      std::size_t(index / rows_) * panels() + index % rows_ / panel_rows;
  int lane = index % rows_ % panel_rows;
  auto* from = codes(panel);
  if (spec_.dense()) {
    int size = element_bytes(spec_.codes);
    for (std::size_t k = 0; k < std::size_t(cols_); k++) {
      copy_element(
          out.codes.data() + k * size,
          from + (k * panel_rows + lane) * size,
          size);
    }
    return;
  }
  for (int u = 0; u < units(); u++) {
    std::uint8_t unit[unit_inputs];
    lane_codes(spec_.bits, from + std::size_t(u) * 64 * spec_.bits, lane, unit);
    int first = u * unit_inputs;
    std::copy_n(
        unit, std::min(unit_inputs, cols_ - first), out.codes.data() + first);
  }
  auto* p = params(panel);
  std::size_t offset = 0;
  for (int i = 0; i < cols_; i += pattern_.period) {
    for (int size : pattern_.sizes) {
      copy_element(
          out.params.data() + offset,
          p + offset * panel_rows + lane * size,
          size);
      offset += size;
    }
  }
}

void Packed::dequantize(int index, std::span<float> out) const {
  MLXLM_CHECK(out.size() == std::size_t(cols_), "row of a packed matrix");
  thread_local std::vector<std::uint8_t> codes;
  thread_local std::vector<std::byte> params;
  codes.resize(row_code_bytes());
  params.resize(row_params());
  row(index, {codes, params});
  if (spec_.dense()) {
    dense_values(spec_.codes, codes.data(), out);
    return;
  }
  for (int first = 0; first < cols_; first += spec_.group) {
    auto a = group_params(spec_, params.data(), first / spec_.group);
    for (int k = first; k < first + spec_.group; k++) {
      out[k] = value_of(spec_, a, codes[k]);
    }
  }
}

} // namespace mlxlm::kernels

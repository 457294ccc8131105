#include "quant/codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "checkpoint/values.h"
#include "core/check.h"
#include "runtime/kernels/linear/floats.h"

namespace mlxlm::quant {
namespace {

using kernels::Codes;
using kernels::Params;

bool power_of_two(int n) {
  return n == 0 || (n & (n - 1)) == 0;
}

template <typename T>
std::byte* put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
  return at + sizeof value;
}

std::byte* put(std::byte* at, Params type, float value) {
  if (type == Params::f32_affine) return put(at, value);
  return put(
      at,
      type == Params::f16_affine ? kernels::to_f16(value)
                                 : kernels::to_bf16(value));
}

} // namespace

void unpack_bits(
    std::span<const std::byte> bytes,
    int bits,
    std::span<std::uint8_t> out) {
  const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data());
  auto* to = out.data();
  const auto eights = out.size() / 8; // of codes: `bits` bytes
  const auto width = static_cast<std::size_t>(bits);
  const auto mask = (1u << bits) - 1;
  if (bits == 8) {
    std::memcpy(to, from, out.size());
    return;
  }
  if (bits == 4) { // the compiler's vectors
    for (std::size_t i = 0; i < 4 * eights; ++i) {
      to[2 * i] = from[i] & 15;
      to[2 * i + 1] = from[i] >> 4;
    }
  } else {
    for (std::size_t i = 0; i < eights; ++i) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + i * width, width);
      for (int k = 0; k < 8; ++k)
        to[8 * i + static_cast<std::size_t>(k)] =
            static_cast<std::uint8_t>(word >> (k * bits) & mask);
    }
  }
  const auto left = out.size() - 8 * eights;
  std::uint64_t word = 0;
  std::memcpy(&word, from + eights * width, (left * width + 7) / 8);
  for (std::size_t k = 0; k < left; ++k)
    to[8 * eights + k] = static_cast<std::uint8_t>(word >> (k * width) & mask);
}

void set_grouping(
    EncodedMatrix& m,
    int bits,
    const Scales& s,
    std::string_view method) {
  const int stored = m.cols / s.groups;
  int group = 256;
  while (group > 16 && stored % group != 0)
    group /= 2;
  if (m.cols % s.groups != 0 || stored % group != 0)
    fail(
        ErrorKind::weights,
        m.where,
        "expected groups of a multiple of 16 inputs, found {} groups of {} inputs",
        s.groups,
        m.cols);
  const bool exact = s.type != Storage::bf16 ||
      std::all_of(s.zeros.begin(), s.zeros.end(), power_of_two);
  m.spec = {};
  m.spec.codes = Codes::unsigned_int;
  m.spec.bits = bits;
  m.spec.group = group;
  m.spec.params = s.type == Storage::f16 ? Params::f16_affine
      : s.type == Storage::bf16 && exact ? Params::bf16_affine
                                         : Params::f32_affine;
  m.label = fmt::format(
      "{} {} bit, {}",
      method,
      bits,
      s.groups == 1 ? "a scale a row" : fmt::format("group {}", stored));
}

GroupedRows::GroupedRows(const EncodedMatrix& m, Scales scales)
    : params_(m.spec.params),
      repeat_(m.cols / scales.groups / m.spec.group),
      scales_(std::move(scales)) {}

void GroupedRows::row(int index, kernels::Row out) const {
  codes(index, out.codes);
  auto* at = out.params.data();
  const auto first = static_cast<std::size_t>(index) *
      static_cast<std::size_t>(scales_.groups);
  for (std::size_t g = first;
       g < first + static_cast<std::size_t>(scales_.groups);
       ++g) {
    const float scale = scales_.scales[g];
    const float bias = -static_cast<float>(scales_.zeros[g]) * scale;
    for (int i = 0; i < repeat_; ++i)
      at = put(put(at, params_, scale), params_, bias);
  }
}

std::vector<int> group_order(
    const RowTensor& group_of,
    const EncodedMatrix& m,
    int groups) {
  Shape64 shape{m.cols};
  if (m.stacked) shape.insert(shape.begin(), m.experts);
  check_shape(group_of, shape);
  auto index = read_integers(group_of);
  // Of compressed-tensors without an order.
  if (std::all_of(index.begin(), index.end(), [](auto v) { return v == -1; }))
    return {};
  const int width = m.cols / groups;
  std::vector<int> out;
  for (int e = 0; e < m.experts; ++e) {
    const auto* of = index.data() + std::ptrdiff_t{e} * m.cols;
    std::vector<int> inputs(static_cast<std::size_t>(m.cols));
    std::iota(inputs.begin(), inputs.end(), 0);
    std::stable_sort(inputs.begin(), inputs.end(), [&](int a, int b) {
      return of[a] < of[b];
    });
    for (int j = 0; j < m.cols; ++j)
      if (of[inputs[static_cast<std::size_t>(j)]] != j / width)
        fail(
            ErrorKind::weights,
            group_of.where(),
            "expected {} groups of {} inputs each, found others",
            groups,
            width);
    out.insert(out.end(), inputs.begin(), inputs.end());
  }
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i] != static_cast<int>(i % static_cast<std::size_t>(m.cols)))
      return out;
  return {};
}

void check_shape(const RowTensor& tensor, const Shape64& shape) {
  if (tensor.shape() == shape) return;
  fail(
      ErrorKind::weights,
      tensor.where(),
      "expected shape [{}], found [{}]",
      fmt::join(shape, ", "),
      fmt::join(tensor.shape(), ", "));
}

} // namespace mlxlm::quant

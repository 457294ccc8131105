#include "checkpoint/values.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/check.h"

namespace mlxlm {
namespace {

template <typename T>
T load_as(const std::byte* at) {
  T out;
  std::memcpy(&out, at, sizeof(T));
  return out;
}

template <typename T>
void convert(
    std::span<const std::byte> bytes,
    std::span<float> out,
    auto&& to_float) {
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = to_float(load_as<T>(bytes.data() + i * sizeof(T)));
}

template <typename T>
void widen(std::span<const std::byte> bytes, std::span<float> out) {
  convert<T>(bytes, out, [](T v) { return static_cast<float>(v); });
}

template <typename T>
void integers(
    std::span<const std::byte> bytes,
    std::vector<std::int64_t>& out) {
  for (std::size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T))
    out.push_back(static_cast<std::int64_t>(load_as<T>(bytes.data() + i)));
}

[[noreturn]] void refuse(const RowTensor& tensor, std::string_view expected) {
  fail(
      ErrorKind::weights,
      tensor.where(),
      "expected {}, found {}",
      expected,
      info(tensor.storage()).name);
}

} // namespace

float e4m3_to_float(std::uint8_t v) {
  const int exponent = (v >> 3) & 15, mantissa = v & 7;
  float out;
  if (exponent == 15 && mantissa == 7)
    out = std::numeric_limits<float>::quiet_NaN();
  else if (exponent == 0)
    out = std::ldexp(static_cast<float>(mantissa), -9);
  else
    out = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return v & 0x80 ? -out : out;
}

float e5m2_to_float(std::uint8_t v) {
  return half_to_float(static_cast<std::uint16_t>(v << 8));
}

float e8m0_to_float(std::uint8_t v) {
  if (v == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, v - 127);
}

bool is_integer(Storage storage) {
  switch (storage) {
    case Storage::i64:
    case Storage::i32:
    case Storage::i16:
    case Storage::i8:
    case Storage::u64:
    case Storage::u32:
    case Storage::u16:
    case Storage::u8:
    case Storage::boolean:
      return true;
    default:
      return false;
  }
}

bool is_plain(Storage storage) {
  switch (storage) {
    case Storage::f64:
    case Storage::f32:
    case Storage::f16:
    case Storage::bf16:
    case Storage::f8_e4m3:
    case Storage::f8_e5m2:
    case Storage::f8_e8m0:
      return true;
    default:
      return is_integer(storage);
  }
}

void to_floats(
    Storage storage,
    std::span<const std::byte> bytes,
    std::span<float> out) {
  switch (storage) {
    case Storage::f64:
      return widen<double>(bytes, out);
    case Storage::f32:
      return widen<float>(bytes, out);
    case Storage::f16:
      return convert<std::uint16_t>(bytes, out, half_to_float);
    case Storage::bf16:
      return convert<std::uint16_t>(bytes, out, bfloat_to_float);
    case Storage::f8_e4m3:
      return convert<std::uint8_t>(bytes, out, e4m3_to_float);
    case Storage::f8_e5m2:
      return convert<std::uint8_t>(bytes, out, e5m2_to_float);
    case Storage::f8_e8m0:
      return convert<std::uint8_t>(bytes, out, e8m0_to_float);
    case Storage::i64:
      return widen<std::int64_t>(bytes, out);
    case Storage::i32:
      return widen<std::int32_t>(bytes, out);
    case Storage::i16:
      return widen<std::int16_t>(bytes, out);
    case Storage::i8:
      return widen<std::int8_t>(bytes, out);
    case Storage::u64:
      return widen<std::uint64_t>(bytes, out);
    case Storage::u32:
      return widen<std::uint32_t>(bytes, out);
    case Storage::u16:
      return widen<std::uint16_t>(bytes, out);
    case Storage::u8:
    case Storage::boolean:
      return widen<std::uint8_t>(bytes, out);
    default:
      fail(
          ErrorKind::weights,
          "",
          "expected plain numbers, found blocks of {}",
          info(storage).name);
  }
}

std::vector<float> read_floats(const RowTensor& tensor) {
  if (!is_plain(tensor.storage())) refuse(tensor, "plain numbers");
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  if (out.empty()) return out;
  const auto rows = static_cast<std::size_t>(tensor.rows());
  const auto width = out.size() / rows;
  std::vector<std::byte> scratch(tensor.row_bytes());
  for (std::size_t r = 0; r < rows; ++r)
    to_floats(
        tensor.storage(),
        tensor.row(static_cast<std::int64_t>(r), scratch),
        std::span(out).subspan(r * width, width));
  if (tensor.offset() != 0)
    for (auto& v : out)
      v += tensor.offset();
  return out;
}

std::vector<std::int64_t> read_integers(const RowTensor& tensor) {
  if (!is_integer(tensor.storage())) refuse(tensor, "integers");
  std::vector<std::int64_t> out;
  if (tensor.elements() == 0) return out;
  out.reserve(static_cast<std::size_t>(tensor.elements()));
  std::vector<std::byte> scratch(tensor.row_bytes());
  for (std::int64_t r = 0; r < tensor.rows(); ++r) {
    auto bytes = tensor.row(r, scratch);
    switch (tensor.storage()) {
      case Storage::i64:
      case Storage::u64:
        integers<std::int64_t>(bytes, out);
        break;
      case Storage::i32:
        integers<std::int32_t>(bytes, out);
        break;
      case Storage::u32:
        integers<std::uint32_t>(bytes, out);
        break;
      case Storage::i16:
        integers<std::int16_t>(bytes, out);
        break;
      case Storage::u16:
        integers<std::uint16_t>(bytes, out);
        break;
      case Storage::i8:
        integers<std::int8_t>(bytes, out);
        break;
      default:
        integers<std::uint8_t>(bytes, out);
    }
  }
  return out;
}

} // namespace mlxlm

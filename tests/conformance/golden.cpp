#include "golden.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/check.h"
#include "core/files.h"
#include "core/json.h"

namespace mlxlm::conformance {
namespace {

template <typename T, typename Out>
std::vector<Out> convert(const std::string& bytes) {
  std::vector<Out> out(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<Out>(value);
  }
  return out;
}

float from_half(std::uint16_t h) {
  int exponent = h >> 10 & 31, fraction = h & 1023;
  float value = exponent == 0 ? std::ldexp(float(fraction), -24)
      : exponent == 31 ? (fraction ? std::numeric_limits<float>::quiet_NaN()
                                   : std::numeric_limits<float>::infinity())
                       : std::ldexp(float(fraction + 1024), exponent - 25);
  return h & 0x8000 ? -value : value;
}

template <typename Out>
std::vector<Out> integers(const GoldenTensor& t) {
  if (t.dtype == "I64") return convert<std::int64_t, Out>(t.bytes);
  if (t.dtype == "I32") return convert<std::int32_t, Out>(t.bytes);
  if (t.dtype == "U32") return convert<std::uint32_t, Out>(t.bytes);
  if (t.dtype == "I16") return convert<std::int16_t, Out>(t.bytes);
  if (t.dtype == "U16") return convert<std::uint16_t, Out>(t.bytes);
  if (t.dtype == "I8") return convert<std::int8_t, Out>(t.bytes);
  if (t.dtype == "U8" || t.dtype == "BOOL")
    return convert<std::uint8_t, Out>(t.bytes);
  fail(
      ErrorKind::weights, "golden", "expected a known type, found {}", t.dtype);
}

} // namespace

std::int64_t GoldenTensor::size() const {
  std::int64_t n = 1;
  for (auto d : shape)
    n *= d;
  return n;
}

std::vector<int> GoldenTensor::ints() const {
  return integers<int>(*this);
}

std::vector<float> GoldenTensor::floats() const {
  if (dtype == "F32") return convert<float, float>(bytes);
  if (dtype == "F64") return convert<double, float>(bytes);
  if (dtype != "F16" && dtype != "BF16") return integers<float>(*this);
  auto raw = convert<std::uint16_t, std::uint16_t>(bytes);
  std::vector<float> out(raw.size());
  std::transform(raw.begin(), raw.end(), out.begin(), [&](std::uint16_t x) {
    return dtype == "F16" ? from_half(x)
                          : std::bit_cast<float>(std::uint32_t(x) << 16);
  });
  return out;
}

Golden::Golden(const std::string& path) : path_(path) {
  auto content = read_file(path, std::size_t{1} << 30);
  std::uint64_t length = 0;
  if (content.size() >= 8) std::memcpy(&length, content.data(), 8);
  if (length == 0 || length > content.size() - 8)
    fail(ErrorKind::weights, path, "expected a safetensors header");
  auto header = parse_json(
      std::string_view(content).substr(8, length), path, ErrorKind::weights);
  auto data = std::string_view(content).substr(8 + length);
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    auto range = entry.at("data_offsets").get<std::vector<std::size_t>>();
    tensors_[name] = {
        entry.at("dtype").get<std::string>(),
        entry.at("shape").get<std::vector<std::int64_t>>(),
        std::string(data.substr(range.at(0), range.at(1) - range.at(0)))};
  }
}

bool Golden::has(std::string_view name) const {
  return tensors_.find(name) != tensors_.end();
}

const GoldenTensor& Golden::operator[](std::string_view name) const {
  auto found = tensors_.find(name);
  if (found == tensors_.end())
    fail(ErrorKind::weights, path_, "expected a tensor \"{}\"", name);
  return found->second;
}

double max_abs(std::span<const float> a, std::span<const float> b) {
  double worst = 0;
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    double d = std::abs(double(a[i]) - double(b[i]));
    if (!(d <= worst)) worst = d;
    if (std::isnan(worst)) return std::numeric_limits<double>::infinity();
  }
  return worst;
}

double max_abs(std::span<const float> a) {
  double worst = 0;
  for (float x : a)
    worst = std::max(worst, std::abs(double(x)));
  return worst;
}

int argmax(std::span<const float> a) {
  return int(std::max_element(a.begin(), a.end()) - a.begin());
}

} // namespace mlxlm::conformance

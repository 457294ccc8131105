#include "runtime/kernels/linear/sample.h"

#include <algorithm>
#include <random>

#include "core/check.h"
#include "runtime/kernels/linear/floats.h"
#include "runtime/kernels/linear/packed.h"

namespace mlxlm::kernels {
namespace {

constexpr std::array<std::int8_t, 16> iq4 =
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr std::array<std::int8_t, 16> e2m1 =
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void append(std::vector<std::byte>& out, const void* value, int size) {
  auto* bytes = static_cast<const std::byte*>(value);
  out.insert(out.end(), bytes, bytes + size);
}

class Writer {
 public:
  Writer(const MatrixSpec& spec, std::mt19937& random)
      : spec_(spec), random_(random) {}

  // The parameters of `inputs` inputs (a whole period).
  void write(std::vector<std::byte>& out, const ParamPattern& pattern) {
    for (std::size_t i = 0; i < pattern.sizes.size(); i++) {
      int size = pattern.sizes[i];
      if (size == 1) {
        auto byte = one_byte();
        append(out, &byte, 1);
        continue;
      }
      float value = uniform(0.01f, 0.03f);
      bool second = i == 1;
      if (second) {
        value = -value * static_cast<float>(1 << spec_.bits) / 2;
      }
      if (spec_.params == Params::k_affine && second) {
        value = -value / 4;
      }
      write_float(out, value, size);
    }
  }

 private:
  void write_float(std::vector<std::byte>& out, float value, int size) {
    if (size == 4) {
      append(out, &value, 4);
    } else {
      auto bits =
          spec_.params == Params::bf16_affine ? to_bf16(value) : to_f16(value);
      append(out, &bits, 2);
    }
  }

  std::uint8_t one_byte() {
    auto any = static_cast<std::uint8_t>(random_());
    switch (spec_.params) {
      case Params::e8m0_scale:
        return static_cast<std::uint8_t>(118 + any % 6);
      case Params::e4m3_scale:
        return static_cast<std::uint8_t>(any % 0x58);
      case Params::k_affine:
        return any % 64;
      default:
        return any;
    }
  }

  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(random_() >> 8) * 0x1p-24f;
  }

  const MatrixSpec& spec_;
  std::mt19937& random_;
};

MatrixSpec integers(int bits, int group, Params params, int zero = 0) {
  return {Codes::unsigned_int, bits, group, params, zero, {}, false};
}

} // namespace

std::vector<Format> all_formats() {
  std::vector<Format> all = {
      {"f32", {Codes::f32, 32, 0, Params::none, 0, {}, false}},
      {"f16", {Codes::f16, 16, 0, Params::none, 0, {}, false}},
      {"bf16", {Codes::bf16, 16, 0, Params::none, 0, {}, false}},
      {"q4_0", integers(4, 32, Params::f16_scale, -8)},
      {"q4_1", integers(4, 32, Params::f16_affine)},
      {"q5_0", integers(5, 32, Params::f16_scale, -16)},
      {"q5_1", integers(5, 32, Params::f16_affine)},
      {"q8_0", integers(8, 32, Params::f16_scale, -128)},
      {"tq2_0", integers(2, 256, Params::f16_scale, -1)},
      {"q2_k", integers(2, 16, Params::k_affine)},
      {"q4_k", integers(4, 32, Params::k_affine)},
      {"q5_k", integers(5, 32, Params::k_affine)},
      {"q3_k", integers(3, 16, Params::k_scale, -4)},
      {"q6_k", integers(6, 16, Params::k_scale, -32)},
      {"iq4_nl", {Codes::table, 4, 32, Params::f16_scale, 0, iq4, false}},
      {"iq4_xs", {Codes::table, 4, 32, Params::k_scale, 0, iq4, false}},
      {"mxfp4", {Codes::table, 4, 32, Params::e8m0_scale, 0, e2m1, true}},
      {"nvfp4", {Codes::table, 4, 16, Params::e4m3_scale, 0, e2m1, true}},
      {"mxfp8", {Codes::e4m3, 8, 32, Params::e8m0_scale, 0, {}, false}},
      {"fp8", {Codes::e4m3, 8, 128, Params::f32_scale, 0, {}, false}},
  };
  for (int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
    for (int group : {16, 32, 64, 128}) {
      auto name = fmt::format("affine{}_g{}", bits, group);
      all.push_back({name + "_f16", integers(bits, group, Params::f16_affine)});
      all.push_back(
          {name + "_bf16", integers(bits, group, Params::bf16_affine)});
      all.push_back({name + "_f32", integers(bits, group, Params::f32_affine)});
    }
  }
  return all;
}

const MatrixSpec& format(std::string_view name) {
  static const auto all = all_formats();
  auto at = std::find_if(
      all.begin(), all.end(), [&](const Format& f) { return f.name == name; });
  MLXLM_CHECK(at != all.end(), name);
  return at->spec;
}

SampleRows::SampleRows(
    const MatrixSpec& spec,
    int rows,
    int cols,
    unsigned seed)
    : code_bytes_(std::size_t(cols) * element_bytes(spec.codes)),
      param_bytes_(spec.param_bytes(cols)) {
  std::mt19937 random(seed);
  if (spec.dense()) {
    auto values = sample_values(std::size_t(rows) * cols, seed);
    codes_.resize(values.size() * element_bytes(spec.codes));
    for (std::size_t i = 0; i < values.size(); i++) {
      auto half =
          spec.codes == Codes::f16 ? to_f16(values[i]) : to_bf16(values[i]);
      if (spec.codes == Codes::f32) {
        std::memcpy(codes_.data() + 4 * i, &values[i], 4);
      } else {
        std::memcpy(codes_.data() + 2 * i, &half, 2);
      }
    }
    return;
  }
  codes_.resize(std::size_t(rows) * cols);
  for (auto& code : codes_) {
    code = static_cast<std::uint8_t>(random() & ((1u << spec.bits) - 1));
  }
  auto pattern = param_pattern(spec);
  Writer writer(spec, random);
  for (int i = 0; i < rows * (cols / pattern.period); i++) {
    writer.write(params_, pattern);
  }
}

void SampleRows::row(int index, Row out) const {
  std::copy_n(
      codes_.data() + index * code_bytes_, code_bytes_, out.codes.data());
  std::copy_n(
      params_.data() + index * param_bytes_, param_bytes_, out.params.data());
}

std::vector<float> sample_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (auto& value : values) {
    auto a = static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f;
    auto b = static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f;
    value = a * b * 8;
  }
  return values;
}

} // namespace mlxlm::kernels

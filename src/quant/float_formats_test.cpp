// FP4 and FP8 of other libraries against their definitions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "checkpoint/values.h"
#include "quant/families.h"
#include "quant/testing.h"

namespace mlxlm {
namespace {

using testing::error_of;
using testing::expect_experts;
using testing::expect_matrix;
using testing::Floats;
using ::testing::HasSubstr;
using testing::MemorySource;
using testing::open_formats;
using testing::put;
using Bytes = std::vector<std::uint8_t>;

class FloatFormats : public ::testing::Test {
 protected:
  void SetUp() override {
    mx::set_default_device(mx::Device::cpu);
  }
};

constexpr int inputs = 64, outputs = 8;

// Finite e4m3 codes.
std::uint8_t fp8_code(int i) {
  auto code = static_cast<std::uint8_t>(i * 37 + 11);
  return (code & 0x7f) == 0x7f ? std::uint8_t{0x30} : code;
}

float e2m1_value(int code) {
  return static_cast<float>(quant::e2m1[static_cast<std::size_t>(code)]) / 2;
}

struct Fp4Sample {
  Bytes packed = Bytes(outputs * inputs / 2), scales;
  Floats values; // without the matrix's own scale

  explicit Fp4Sample(int group, int seed) {
    for (int r = 0; r < outputs; ++r)
      for (int g = 0; g < inputs / group; ++g)
        scales.push_back(static_cast<std::uint8_t>(
            group == 16 ? 0x28 + (r + g + seed) % 16 : 124 + (r + g) % 4));
    for (int i = 0; i < outputs * inputs; ++i) {
      const int code = (i * 5 + i / 16 + seed) % 16;
      packed[i / 2] |= code << (4 * (i % 2));
      const auto scale = scales[i / group];
      values.push_back(
          e2m1_value(code) *
          (group == 16 ? e4m3_to_float(scale) : e8m0_to_float(scale)));
    }
  }
};

Floats times(Floats values, float factor) {
  for (auto& v : values)
    v *= factor;
  return values;
}

const char* modelopt =
    R"({"quantization_config": {"quant_method": "modelopt",
    "quant_algo": "NVFP4"}})";
const char* compressed =
    R"({"quantization_config": {"quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized"}})";

TEST_F(FloatFormats, ModeloptNvfp4) {
  Fp4Sample s(16, 1);
  MemorySource m;
  put(m, "m.weight", Storage::u8, {outputs, inputs / 2}, s.packed);
  put(m, "m.weight_scale", Storage::f8_e4m3, {outputs, inputs / 16}, s.scales);
  put(m, "m.weight_scale_2", Storage::f32, {}, Floats{0.37f});
  put(m, "m.input_scale", Storage::f32, {}, Floats{2});
  put(m, "k_proj.k_scale", Storage::f32, {}, Floats{2});
  expect_matrix(m, modelopt, inputs, outputs, times(s.values, 0.37f), 1e-5f);
}

TEST_F(FloatFormats, CompressedNvfp4DividesByItsGlobalScale) {
  Fp4Sample s(16, 2);
  MemorySource m;
  put(m, "m.weight_packed", Storage::u8, {outputs, inputs / 2}, s.packed);
  put(m, "m.weight_scale", Storage::f8_e4m3, {outputs, inputs / 16}, s.scales);
  put(m, "m.weight_global_scale", Storage::f32, {1}, Floats{8});
  put(m, "m.input_global_scale", Storage::f32, {1}, Floats{2});
  expect_matrix(m, compressed, inputs, outputs, times(s.values, 0.125f), 1e-6f);
}

TEST_F(FloatFormats, Nvfp4ExpertsHaveScalesOfTheirOwn) {
  Fp4Sample a(16, 3), b(16, 4);
  MemorySource m;
  int i = 0;
  for (const auto* s : {&a, &b}) {
    auto path = "experts." + std::to_string(i) + ".up.";
    put(m, path + "weight", Storage::u8, {outputs, inputs / 2}, s->packed);
    put(m,
        path + "weight_scale",
        Storage::f8_e4m3,
        {outputs, inputs / 16},
        s->scales);
    put(m, path + "weight_scale_2", Storage::f32, {}, Floats{i ? 0.5f : 0.3f});
    ++i;
  }
  auto want = times(a.values, 0.3f), more = times(b.values, 0.5f);
  want.insert(want.end(), more.begin(), more.end());
  expect_experts(
      m,
      modelopt,
      inputs,
      outputs,
      want,
      {stack("experts.#.up.*", "m.*")},
      1e-5f);
}

TEST_F(FloatFormats, Mxfp4) {
  Fp4Sample s(32, 5);
  MemorySource m;
  put(m, "m.weight_packed", Storage::u8, {outputs, inputs / 2}, s.packed);
  put(m, "m.weight_scale", Storage::u8, {outputs, inputs / 32}, s.scales);
  expect_matrix(m, compressed, inputs, outputs, s.values);
}

TEST_F(FloatFormats, RefusesFp4ScalesOfAnotherShape) {
  Fp4Sample s(16, 6);
  MemorySource m;
  put(m, "m.weight", Storage::u8, {outputs, inputs / 2}, s.packed);
  put(m,
      "m.weight_scale",
      Storage::f8_e4m3,
      {outputs / 2, inputs / 8},
      s.scales);
  EXPECT_THAT(
      error_of([&] {
        open_formats(m, modelopt)->root().linear("m", inputs, outputs);
      }),
      HasSubstr("m.weight_scale: expected shape [8, 4], found [4, 8]"));
}

// Codes and their values with the scale of each element.
Floats fp8_values(int outputs, int cols, Bytes& codes, auto&& scale) {
  Floats values;
  for (int r = 0; r < outputs; ++r)
    for (int j = 0; j < cols; ++j) {
      codes.push_back(fp8_code(r * cols + j));
      values.push_back(e4m3_to_float(codes.back()) * scale(r, j));
    }
  return values;
}

TEST_F(FloatFormats, Fp8BlocksMayBeCutAtTheEdges) {
  const int outputs = 40, cols = 96; // blocks of 32 x 64
  Floats scales{0.011f, 0.023f, 0.031f, 0.047f};
  Bytes codes;
  auto want = fp8_values(outputs, cols, codes, [&](int r, int j) {
    return scales[r / 32 * 2 + j / 64];
  });
  MemorySource m;
  put(m, "m.weight", Storage::f8_e4m3, {outputs, cols}, codes);
  put(m, "m.weight_scale_inv", Storage::f32, {2, 2}, scales);
  put(m, "m.activation_scale", Storage::f32, {}, Floats{1});
  const char* config =
      R"({"quantization_config": {"quant_method": "fp8",
      "weight_block_size": [32, 64]}})";
  // As MLX arrays in float16.
  expect_matrix(m, config, cols, outputs, want, 3e-2f);
  auto exact = open_formats(m, config)->root().linear("m", cols, outputs);
  EXPECT_EQ(testing::floats(exact.kernel().dense(mx::float32)), want);
  EXPECT_EQ(exact.kernel().format(), "fp8");
}

TEST_F(FloatFormats, Fp8ScalesOfRowsAndOfTheMatrix) {
  for (int count : {1, outputs}) {
    Floats scales;
    for (int r = 0; r < count; ++r)
      scales.push_back(0.01f * static_cast<float>(r + 1));
    Bytes codes;
    auto want = fp8_values(
        outputs, inputs, codes, [&](int r, int) { return scales[r % count]; });
    MemorySource m;
    put(m, "m.weight", Storage::f8_e4m3, {outputs, inputs}, codes);
    put(m, "m.weight_scale", Storage::f32, {count, 1}, scales);
    expect_matrix(
        m,
        R"({"quantization_config": {"quant_method": "compressed-tensors",
        "format": "float-quantized"}})",
        inputs,
        outputs,
        want,
        2e-2f);
  }
}

TEST_F(FloatFormats, Fp8PowersOfTwoBecomeMxfp8) {
  Bytes exponents{120, 121, 122, 123}, codes;
  auto want = fp8_values(outputs, inputs, codes, [&](int r, int j) {
    return e8m0_to_float(exponents[r / 4 * 2 + j / 32]);
  });
  MemorySource m;
  put(m, "m.weight", Storage::f8_e4m3, {outputs, inputs}, codes);
  put(m, "m.weight_scale_inv", Storage::u8, {2, 2}, exponents);
  const char* config =
      R"({"quantization_config": {"quant_method": "fp8",
      "weight_block_size": [4, 32]}})";
  expect_matrix(m, config, inputs, outputs, want);
  auto linear = open_formats(m, config)->root().linear("m", inputs, outputs);
  EXPECT_EQ(linear.kernel().format(), "mxfp8");
}

TEST_F(FloatFormats, RefusesFp8ScalesThatDoNotCover) {
  Bytes codes(outputs * inputs);
  MemorySource m;
  put(m, "m.weight", Storage::f8_e4m3, {outputs, inputs}, codes);
  put(m, "m.weight_scale_inv", Storage::f32, {3, 1}, Floats{1, 1, 1});
  EXPECT_THAT(
      error_of(
          [&] { open_formats(m, "{}")->root().linear("m", inputs, outputs); }),
      HasSubstr("m.weight_scale_inv: expected scales of the matrix, its rows or"
                " blocks of 128 x 128 of [8, 64], found [3, 1]"));
}

} // namespace
} // namespace mlxlm

// AWQ, GPTQ, compressed-tensors' integers and BitNet against their definitions
// written out plainly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "checkpoint/values.h"
#include "core/check.h"
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

constexpr int in = 64, out = 16, group = 32, groups = in / group;

// Scales that a half holds exactly: 2^-6 .. 2^-3.
struct Sample {
  std::vector<std::vector<int>> codes; // [out][in]
  std::vector<std::vector<int>> zeros; // [groups][out]
  std::vector<std::vector<float>> scales; // [groups][out]

  Sample(int bits, unsigned seed) {
    std::mt19937 random(seed);
    auto any = [&](int n) { return static_cast<int>(random() % unsigned(n)); };
    codes.assign(out, std::vector<int>(in));
    for (auto& row : codes)
      for (auto& c : row)
        c = any(1 << bits);
    zeros.assign(groups, std::vector<int>(out));
    scales.assign(groups, std::vector<float>(out));
    for (int g = 0; g < groups; ++g)
      for (int r = 0; r < out; ++r) {
        zeros[g][r] = 1 + any((1 << bits) - 1);
        scales[g][r] = std::ldexp(1.0f, -3 - any(4));
      }
  }
  Floats values(const std::vector<int>& group_of) const {
    Floats result;
    for (int r = 0; r < out; ++r)
      for (int j = 0; j < in; ++j) {
        const int g = group_of[j];
        result.push_back(
            scales[g][r] * static_cast<float>(codes[r][j] - zeros[g][r]));
      }
    return result;
  }
};

std::vector<int> neighbours() {
  std::vector<int> of(in);
  for (int j = 0; j < in; ++j)
    of[j] = j / group;
  return of;
}
std::vector<int> interleaved() {
  std::vector<int> of(in);
  for (int j = 0; j < in; ++j)
    of[j] = j % groups;
  return of;
}

std::uint16_t half(float v) { // powers of two
  return static_cast<std::uint16_t>((std::ilogb(v) + 15) << 10);
}

std::vector<std::uint16_t> halves(const Sample& s) {
  std::vector<std::uint16_t> result;
  for (const auto& row : s.scales)
    for (float v : row)
      result.push_back(half(v));
  return result;
}

// A stream of codes, lowest bits first.
std::vector<std::uint32_t> stream(const std::vector<int>& codes, int bits) {
  std::vector<std::uint32_t> words(codes.size() * bits / 32);
  for (std::size_t i = 0; i < codes.size() * bits; ++i)
    if (codes[i / bits] >> (i % bits) & 1) words[i / 32] |= 1u << (i % 32);
  return words;
}

void put_gptq(
    MemorySource& to,
    const std::string& path,
    const Sample& s,
    int bits,
    const std::vector<int>& group_of,
    int zero_offset) {
  const int height = in * bits / 32;
  std::vector<std::uint32_t> words(height * out);
  for (int r = 0; r < out; ++r) {
    auto column = stream(s.codes[r], bits);
    for (int k = 0; k < height; ++k)
      words[k * out + r] = column[k];
  }
  std::vector<std::uint32_t> zeros;
  for (auto row : s.zeros) {
    for (auto& z : row)
      z -= zero_offset;
    for (auto w : stream(row, bits))
      zeros.push_back(w);
  }
  put(to, path + ".qweight", Storage::i32, {height, out}, words);
  put(to, path + ".qzeros", Storage::i32, {groups, out * bits / 32}, zeros);
  put(to, path + ".scales", Storage::f16, {groups, out}, halves(s));
  put(to, path + ".g_idx", Storage::i32, {in}, group_of);
}

std::string gptq_config(int bits, const char* more = "") {
  return fmt::format(
      R"({{"quantization_config": {{"quant_method": "gptq", "bits": {},
      "group_size": {}{}}}}})",
      bits,
      group,
      more);
}

class Formats : public ::testing::Test {
 protected:
  void SetUp() override {
    mx::set_default_device(mx::Device::cpu);
  }
};
using Gptq = Formats;
using Awq = Formats;
using CompressedTensors = Formats;
using BitNet = Formats;
using Methods = Formats;

TEST_F(Gptq, EveryWidth) {
  for (int bits : {2, 4, 8}) {
    Sample s(bits, 1);
    MemorySource m;
    put_gptq(m, "m", s, bits, neighbours(), 1);
    expect_matrix(m, gptq_config(bits), in, out, s.values(neighbours()));
  }
}

TEST_F(Gptq, ThreeBitsRunAcrossWords) {
  // 16 outputs of 3 bits are no whole words: 32 outputs of two samples.
  Sample a(3, 2), b(3, 3);
  auto both = a;
  for (auto& row : b.codes)
    both.codes.push_back(row);
  std::vector<std::uint32_t> words(6 * 32), zeros;
  for (int r = 0; r < 32; ++r) {
    auto column = stream(both.codes[r], 3);
    for (int k = 0; k < 6; ++k)
      words[k * 32 + r] = column[k];
  }
  std::vector<std::uint16_t> scales;
  for (int g = 0; g < groups; ++g) {
    auto row = a.zeros[g];
    row.insert(row.end(), b.zeros[g].begin(), b.zeros[g].end());
    for (auto& z : row)
      --z;
    for (auto w : stream(row, 3))
      zeros.push_back(w);
    for (const auto* s : {&a, &b})
      for (float v : s->scales[g])
        scales.push_back(half(v));
  }
  MemorySource m;
  put(m, "m.qweight", Storage::i32, {6, 32}, words);
  put(m, "m.qzeros", Storage::i32, {groups, 3}, zeros);
  put(m, "m.scales", Storage::f16, {groups, 32}, scales);
  auto want = a.values(neighbours()), more = b.values(neighbours());
  want.insert(want.end(), more.begin(), more.end());
  expect_matrix(m, gptq_config(3), in, 32, want);
}

TEST_F(Gptq, ActOrder) {
  Sample s(4, 4);
  MemorySource m;
  put_gptq(m, "m", s, 4, interleaved(), 1);
  expect_matrix(m, gptq_config(4), in, out, s.values(interleaved()));
}

TEST_F(Gptq, SecondVersionStoresZeroPointsAsTheyAre) {
  Sample s(4, 5);
  MemorySource m;
  put_gptq(m, "m", s, 4, neighbours(), 0);
  expect_matrix(
      m,
      gptq_config(4, R"(, "checkpoint_format": "gptq_v2")"),
      in,
      out,
      s.values(neighbours()));
}

TEST_F(Gptq, ExpertsHaveOrdersOfTheirOwn) {
  Sample a(4, 6), b(4, 7);
  MemorySource m;
  put_gptq(m, "experts.0.up", a, 4, interleaved(), 1);
  put_gptq(m, "experts.1.up", b, 4, neighbours(), 1);
  auto want = a.values(interleaved()), more = b.values(neighbours());
  want.insert(want.end(), more.begin(), more.end());
  expect_experts(
      m, gptq_config(4), in, out, want, {stack("experts.#.up.*", "m.*")});
}

TEST_F(Gptq, RefusesUnevenGroupsAndWrongShapes) {
  Sample s(4, 8);
  auto uneven = neighbours();
  uneven[0] = 1;
  MemorySource m;
  put_gptq(m, "m", s, 4, uneven, 1);
  auto read = [&](const char* more = "") {
    return error_of([&] {
      open_formats(m, gptq_config(4, more))->root().linear("m", in, out);
    });
  };
  EXPECT_THAT(read(), HasSubstr("m.g_idx: expected 2 groups of 32 inputs"));
  EXPECT_THAT(
      read(R"(, "checkpoint_format": "marlin")"),
      HasSubstr("checkpoint_format: expected \"gptq\" or \"gptq_v2\""));
  put(m, "m.qzeros", Storage::i32, {1, 2}, std::vector<int>{1, 2});
  EXPECT_THAT(read(), HasSubstr("m.qzeros: expected shape [2, 2]"));
  EXPECT_THAT(
      error_of([&] { open_formats(m, gptq_config(5)); }),
      HasSubstr("quantization_config.bits: expected 2, 3, 4 or 8, found 5"));
}

constexpr int awq_order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

std::vector<std::uint32_t> awq_words(
    const std::vector<std::vector<int>>& rows_of_outputs) {
  std::vector<std::uint32_t> words;
  for (const auto& row : rows_of_outputs)
    for (int c = 0; c < out / 8; ++c) {
      std::uint32_t word = 0;
      for (int i = 0; i < 8; ++i)
        word |= std::uint32_t(row[c * 8 + awq_order[i]]) << (4 * i);
      words.push_back(word);
    }
  return words;
}

void put_awq(MemorySource& m, const Sample& s, bool zeros) {
  std::vector<std::vector<int>> by_input(in, std::vector<int>(out));
  for (int j = 0; j < in; ++j)
    for (int r = 0; r < out; ++r)
      by_input[j][r] = s.codes[r][j];
  put(m, "m.qweight", Storage::i32, {in, out / 8}, awq_words(by_input));
  put(m, "m.scales", Storage::f16, {groups, out}, halves(s));
  if (zeros)
    put(m, "m.qzeros", Storage::i32, {groups, out / 8}, awq_words(s.zeros));
}

const char* awq_config =
    R"({"quantization_config": {"quant_method": "awq", "bits": 4,
    "group_size": 32, "version": "gemm", "zero_point": true}})";

TEST_F(Awq, WithAndWithoutZeroPoints) {
  Sample s(4, 9);
  MemorySource m;
  put_awq(m, s, true);
  expect_matrix(m, awq_config, in, out, s.values(neighbours()));
  MemorySource plain;
  put_awq(plain, s, false);
  for (auto& row : s.zeros)
    for (auto& z : row)
      z = 8;
  expect_matrix(plain, awq_config, in, out, s.values(neighbours()));
}

TEST_F(Awq, RefusesOtherLayouts) {
  MemorySource m;
  EXPECT_THAT(
      error_of([&] {
        open_formats(
            m,
            R"({"quantization_config": {"quant_method": "awq",
            "version": "gemv"}})");
      }),
      HasSubstr("version: expected \"gemm\", found \"gemv\""));
}

// Words of 32 / bits codes each.
std::vector<std::uint32_t> words_of(const std::vector<int>& codes, int bits) {
  const std::size_t per = 32 / bits;
  std::vector<std::uint32_t> words((codes.size() + per - 1) / per);
  for (std::size_t i = 0; i < codes.size(); ++i)
    words[i / per] |= std::uint32_t(codes[i]) << (i % per * bits);
  return words;
}

const char* compressed_config =
    R"({"quantization_config": {"quant_method": "compressed-tensors",
    "format": "pack-quantized", "config_groups": {}}})";

void put_packed(
    MemorySource& m,
    const Sample& s,
    int bits,
    bool zeros,
    Storage type = Storage::f16) {
  std::vector<std::uint32_t> words;
  for (const auto& row : s.codes)
    for (auto w : words_of(row, bits))
      words.push_back(w);
  const auto width = static_cast<std::int64_t>(words.size()) / out;
  put(m, "m.weight_packed", Storage::i32, {out, width}, words);
  put(m, "m.weight_shape", Storage::i64, {2}, std::vector<std::int64_t>{0, 0});
  std::vector<std::uint16_t> scales;
  for (int r = 0; r < out; ++r)
    for (int g = 0; g < groups; ++g)
      scales.push_back(
          type == Storage::f16 ? half(s.scales[g][r])
                               : static_cast<std::uint16_t>(
                                     (std::ilogb(s.scales[g][r]) + 127) << 7));
  put(m, "m.weight_scale", type, {out, groups}, scales);
  if (!zeros) return;
  const auto height = (out + 32 / bits - 1) / (32 / bits);
  std::vector<std::uint32_t> packed(height * groups);
  for (int g = 0; g < groups; ++g) {
    auto column = words_of(s.zeros[g], bits);
    for (int i = 0; i < height; ++i)
      packed[i * groups + g] = column[i];
  }
  put(m, "m.weight_zero_point", Storage::i32, {height, groups}, packed);
}

TEST_F(CompressedTensors, PackedWords) {
  for (int bits : {3, 4, 8})
    for (auto type : {Storage::f16, Storage::bf16}) {
      Sample s(bits, 10);
      MemorySource m;
      put_packed(m, s, bits, true, type);
      expect_matrix(m, compressed_config, in, out, s.values(neighbours()));
    }
}

TEST_F(CompressedTensors, Symmetric) {
  Sample s(4, 11);
  MemorySource m;
  put_packed(m, s, 4, false);
  for (auto& row : s.zeros)
    for (auto& z : row)
      z = 8;
  expect_matrix(m, compressed_config, in, out, s.values(neighbours()));
}

TEST_F(CompressedTensors, ActOrder) {
  Sample s(4, 12);
  MemorySource m;
  put_packed(m, s, 4, true);
  put(m, "m.weight_g_idx", Storage::i32, {in}, interleaved());
  expect_matrix(m, compressed_config, in, out, s.values(interleaved()));
}

TEST_F(CompressedTensors, BytesWithAScaleARow) {
  std::vector<std::int8_t> bytes;
  std::vector<float> scales;
  Floats want;
  for (int r = 0; r < out; ++r) {
    scales.push_back(0.01f * static_cast<float>(r + 1));
    for (int j = 0; j < in; ++j) {
      bytes.push_back(static_cast<std::int8_t>(r * 17 + j * 5));
      want.push_back(scales.back() * static_cast<float>(bytes.back()));
    }
  }
  MemorySource m;
  put(m, "m.weight", Storage::i8, {out, in}, bytes);
  put(m, "m.weight_scale", Storage::f32, {out, 1}, scales);
  expect_matrix(m, compressed_config, in, out, want, 2e-6f);
}

TEST_F(BitNet, PacksFourRowsToAByte) {
  std::vector<std::uint8_t> packed(out / 4 * in);
  Floats want(out * in);
  for (int r = 0; r < out; ++r)
    for (int j = 0; j < in; ++j) {
      const int trit = (r * 7 + j) % 3;
      packed[r % (out / 4) * in + j] |= trit << (2 * (r / (out / 4)));
      want[r * in + j] = static_cast<float>(trit - 1);
    }
  MemorySource m;
  put(m, "m.weight", Storage::u8, {out / 4, in}, packed);
  put(m, "m.weight_scale", Storage::f32, {1}, std::vector<float>{4});
  auto config = [](const char* kind) {
    return fmt::format(
        R"({{"quantization_config": {{"quant_method": "bitnet",
        "linear_class": "{}"}}}})",
        kind);
  };
  auto scaled = want;
  for (auto& v : scaled)
    v *= 4;
  expect_matrix(m, config("autobitlinear"), in, out, scaled);
  for (auto& v : scaled)
    v /= 16;
  expect_matrix(m, config("bitlinear"), in, out, scaled);
}

TEST_F(Methods, RefusesByName) {
  MemorySource m;
  auto refused = [&](const char* block) {
    return error_of([&] {
      open_formats(m, fmt::format(R"({{"quantization_config": {}}})", block));
    });
  };
  EXPECT_THAT(
      refused(R"({"quant_method": "bitsandbytes", "load_in_4bit": true})"),
      HasSubstr("found \"bitsandbytes\"; convert the unquantized model"));
  EXPECT_THAT(
      refused(R"({"load_in_8bit": true})"),
      HasSubstr("found \"bitsandbytes\""));
  EXPECT_THAT(
      refused(R"({"quant_method": "aqlm"})"),
      HasSubstr(
          "config.json: quantization_config.quant_method: expected auto-round, awq"));
  EXPECT_EQ(refused(R"({"bits": 4, "group_size": 64})"), "no error");
}

} // namespace
} // namespace mlxlm

#include "runtime/kernels/matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "mlxlm/error.h"
#include "runtime/kernels/linear/floats.h"
#include "runtime/kernels/linear/packed.h"
#include "runtime/kernels/linear/sample.h"

namespace mlxlm::kernels {
namespace {

struct PlainRow {
  PlainRow(const MatrixSpec& spec, int cols)
      : codes(std::size_t(cols) * element_bytes(spec.codes)),
        params(spec.param_bytes(cols)) {}
  Row view() {
    return {codes, params};
  }
  std::vector<std::uint8_t> codes;
  std::vector<std::byte> params;
};

struct Formats : ::testing::TestWithParam<Format> {};

TEST_P(Formats, RowIsTheExactInverse) {
  const auto& spec = GetParam().spec;
  int rows = 37,
      cols = spec.group == 16 && spec.params != Params::k_affine &&
          spec.params != Params::k_scale
      ? 272
      : 512;
  int experts = 2;
  SampleRows source(spec, rows * experts, cols, 1);
  auto matrix = pack(spec, rows, cols, experts, source, "w");
  EXPECT_EQ(matrix->spec(), spec);
  PlainRow expected(spec, cols), found(spec, cols);
  for (int i = 0; i < rows * experts; i++) {
    source.row(i, expected.view());
    matrix->row(i, found.view());
    ASSERT_EQ(expected.codes, found.codes) << i;
    ASSERT_EQ(expected.params, found.params) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All,
    Formats,
    ::testing::ValuesIn(all_formats()),
    [](const auto& info) { return info.param.name; });

// One row given as bytes.
struct OneRow : RowSource {
  OneRow(std::vector<std::uint8_t> c, std::vector<std::uint8_t> p)
      : codes(std::move(c)), params(std::move(p)) {}
  void row(int, Row out) const override {
    std::copy(codes.begin(), codes.end(), out.codes.begin());
    std::transform(
        params.begin(), params.end(), out.params.begin(), [](auto b) {
          return std::byte{b};
        });
  }
  std::vector<std::uint8_t> codes, params;
};

std::vector<float> values(const MatrixSpec& spec, int cols, const OneRow& row) {
  std::vector<float> out(cols);
  pack(spec, 1, cols, 1, row, "w")->dequantize(0, out);
  return out;
}

TEST(Dequantize, Affine) {
  auto one = to_f16(0.5f), bias = to_f16(-3.0f);
  auto out = values(
      format("q4_1"),
      32,
      {std::vector<std::uint8_t>(32, 9),
       {std::uint8_t(one),
        std::uint8_t(one >> 8),
        std::uint8_t(bias),
        std::uint8_t(bias >> 8)}});
  EXPECT_EQ(out, std::vector<float>(32, 1.5f));
}

TEST(Dequantize, KAffine) {
  // d = 0.5, dmin = 2; group g: sc = g + 1, m = g.
  auto d = to_f16(0.5f), dmin = to_f16(2.0f);
  std::vector<std::uint8_t> params = {
      std::uint8_t(d),
      std::uint8_t(d >> 8),
      std::uint8_t(dmin),
      std::uint8_t(dmin >> 8),
      1,
      2,
      3,
      4,
      5,
      6,
      7,
      8,
      0,
      1,
      2,
      3,
      4,
      5,
      6,
      7};
  auto out =
      values(format("q4_k"), 256, {std::vector<std::uint8_t>(256, 3), params});
  for (int k = 0; k < 256; k++) {
    int g = k / 32;
    EXPECT_EQ(out[k], 0.5f * static_cast<float>(g + 1) * 3 - 2.0f * g);
  }
}

TEST(Dequantize, KScale) {
  auto d = to_f16(0.25f);
  std::vector<std::uint8_t> params = {std::uint8_t(d), std::uint8_t(d >> 8)};
  for (int g = 0; g < 16; g++) {
    params.push_back(static_cast<std::uint8_t>(g - 8));
  }
  auto out =
      values(format("q6_k"), 256, {std::vector<std::uint8_t>(256, 40), params});
  for (int k = 0; k < 256; k++) {
    EXPECT_EQ(out[k], 0.25f * static_cast<float>(k / 16 - 8) * 8);
  }
}

TEST(Dequantize, TableOfHalves) {
  std::vector<std::uint8_t> codes(32);
  for (int k = 0; k < 32; k++) {
    codes[k] = k % 16;
  }
  auto out = values(format("mxfp4"), 32, {codes, {129}});
  std::vector<float> half = {0, .5f, 1, 1.5f, 2, 3, 4, 6};
  for (int k = 0; k < 32; k++) {
    EXPECT_EQ(out[k], 4 * half[k % 8] * (k % 16 < 8 ? 1 : -1)) << k;
  }
}

TEST(Dequantize, FloatCodes) {
  std::vector<std::uint8_t> codes(32, 0x38); // 1.0
  codes[1] = 0xb8;
  codes[2] = 0x01; // 2^-9
  codes[3] = 0x7e; // 448
  auto out = values(format("mxfp8"), 32, {codes, {126}});
  EXPECT_EQ(out[0], 0.5f);
  EXPECT_EQ(out[1], -0.5f);
  EXPECT_EQ(out[2], 0x1p-10f);
  EXPECT_EQ(out[3], 224.0f);
}

TEST(Floats, HalfRoundTripsEveryValue) {
  for (int bits = 0; bits < 0x10000; bits++) {
    auto value = from_f16(static_cast<std::uint16_t>(bits));
    if (value == value) {
      EXPECT_EQ(to_f16(value), bits);
    }
  }
  EXPECT_EQ(from_f16(0x3c00), 1.0f);
  EXPECT_EQ(from_f16(0x0001), 0x1p-24f);
  EXPECT_EQ(from_f16(0x7c00), HUGE_VALF);
  EXPECT_EQ(to_f16(1.0f + 0x1p-11f), 0x3c00); // ties to even
  EXPECT_EQ(to_f16(1e9f), 0x7c00);
}

TEST(Pack, TellsWhatHasBeenRead) {
  struct Source : RowSource {
    void row(int index, Row out) const override {
      std::lock_guard lock(mutex);
      read++;
    }
    void done(int index) const override {
      EXPECT_EQ(index, read);
      last = index;
    }
    mutable std::mutex mutex;
    mutable int read = 0, last = 0;
  } source;
  pack(format("q8_0"), 1000, 8192, 3, source, "w");
  EXPECT_EQ(source.last, 3000);
}

void expect_refused(MatrixSpec spec, int rows, int cols, int experts) {
  SampleRows source(format("q8_0"), 1, 32, 1);
  try {
    pack(spec, rows, cols, experts, source, "model.w");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::weights);
    EXPECT_EQ(std::string(e.what()).rfind("model.w: expected", 0), 0u)
        << e.what();
  }
}

TEST(Pack, RefusesWhatItCannotHold) {
  auto q4 = format("q4_1");
  expect_refused(q4, 0, 32, 1);
  expect_refused(q4, 1 << 30, 1 << 30, 1 << 30);
  expect_refused(q4, 16, 48, 1);
  expect_refused(format("q4_k"), 16, 128, 1);
  q4.bits = 9;
  expect_refused(q4, 16, 32, 1);
  q4 = format("q4_1");
  q4.group = 24;
  expect_refused(q4, 16, 48, 1);
  q4.params = Params::none;
  expect_refused(q4, 16, 48, 1);
  auto table = format("mxfp4");
  table.params = Params::f16_affine;
  expect_refused(table, 16, 32, 1);
}

TEST(Pack, PassesOnTheSourcesError) {
  struct Source : RowSource {
    void row(int, Row) const override {
      throw Error(ErrorKind::io, "file: expected more");
    }
  } source;
  EXPECT_THROW(pack(format("q4_0"), 64, 64, 1, source, "w"), Error);
}

} // namespace
} // namespace mlxlm::kernels

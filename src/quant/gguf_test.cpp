// GGUF blocks against the value of each element written down by itself (ggml's
// dequantize_row_* functions read backwards).
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cmath>
#include <random>

#include "checkpoint/testing.h"
#include "checkpoint/values.h"
#include "quant/formats.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

using testing::MemorySource;
using Byte = std::uint8_t;

float half(const Byte* at) {
  return half_to_float(static_cast<std::uint16_t>(at[0] | at[1] << 8));
}
int nibble(
    const Byte* q,
    int i,
    int width) { // low nibbles first, in runs of `width`
  const int byte = i / (2 * width) * width + i % width;
  return q[byte] >> (i / width % 2 * 4) & 15;
}
int bit(const Byte* bits, int i) {
  return bits[i / 8] >> (i % 8) & 1;
}
int k_scale(const Byte* s, int g, bool minimum) {
  if (g < 4) return s[g + (minimum ? 4 : 0)] & 63;
  const int low = minimum ? s[g + 4] >> 4 : s[g + 4] & 15;
  return low | s[g - (minimum ? 0 : 4)] >> 6 << 4;
}
constexpr int iq4[] =
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float fp4[] =
    {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};

float value(Storage type, const Byte* b, int i) {
  const float d = half(b);
  switch (type) {
    case Storage::q4_0:
      return d * static_cast<float>(nibble(b + 2, i, 16) - 8);
    case Storage::q4_1:
      return d * static_cast<float>(nibble(b + 4, i, 16)) + half(b + 2);
    case Storage::q5_0:
      return d *
          static_cast<float>((nibble(b + 6, i, 16) | bit(b + 2, i) << 4) - 16);
    case Storage::q5_1:
      return d * static_cast<float>(nibble(b + 8, i, 16) | bit(b + 4, i) << 4) +
          half(b + 2);
    case Storage::q8_0:
      return d * static_cast<float>(static_cast<std::int8_t>(b[2 + i]));
    case Storage::q2_k: {
      const int q = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      return half(b + 80) * static_cast<float>(b[i / 16] & 15) *
          static_cast<float>(q) -
          half(b + 82) * static_cast<float>(b[i / 16] >> 4);
    }
    case Storage::q3_k: {
      const int g = i / 16;
      const int q = (b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) -
          ((b[i % 32] >> (i / 32) & 1) != 0 ? 0 : 4);
      const int low = b[96 + g % 8] >> (g / 8 * 4) & 15;
      const int scale = (low | (b[104 + g % 4] >> (g / 4 * 2) & 3) << 4) - 32;
      return half(b + 108) * static_cast<float>(scale) * static_cast<float>(q);
    }
    case Storage::q4_k:
    case Storage::q5_k: {
      const bool five = type == Storage::q5_k;
      int q = nibble(b + (five ? 48 : 16), i, 32);
      if (five) q |= (b[16 + i % 32] >> (i / 32) & 1) << 4;
      return d * static_cast<float>(k_scale(b + 4, i / 32, false)) *
          static_cast<float>(q) -
          half(b + 2) * static_cast<float>(k_scale(b + 4, i / 32, true));
    }
    case Storage::q6_k: {
      const int r = i % 128;
      const int low = b[i / 128 * 64 + r % 64] >> (r / 64 * 4) & 15;
      const int high = b[128 + i / 128 * 32 + r % 32] >> (r / 32 * 2) & 3;
      return half(b + 208) *
          static_cast<float>(static_cast<std::int8_t>(b[192 + i / 16])) *
          static_cast<float>((low | high << 4) - 32);
    }
    case Storage::iq4_nl:
      return d * static_cast<float>(iq4[nibble(b + 2, i, 16)]);
    case Storage::iq4_xs: {
      const int g = i / 32;
      const int high = (b[2] | b[3] << 8) >> (2 * g) & 3;
      const int scale = ((b[4 + g / 2] >> (g % 2 * 4) & 15) | high << 4) - 32;
      return d * static_cast<float>(scale) *
          static_cast<float>(iq4[nibble(b + 8, i, 16)]);
    }
    case Storage::tq1_0: {
      int byte, digit;
      if (i < 160)
        byte = i % 32, digit = i / 32;
      else if (i < 240)
        byte = 32 + (i - 160) % 16, digit = (i - 160) / 16;
      else
        byte = 48 + (i - 240) % 4, digit = (i - 240) / 4;
      auto q = b[byte];
      for (int n = 0; n < digit; ++n)
        q = static_cast<Byte>(q * 3);
      return half(b + 52) * static_cast<float>((q * 3 >> 8) - 1);
    }
    case Storage::tq2_0:
      return half(b + 64) *
          static_cast<float>(
                 (b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - 1);
    case Storage::mxfp4:
      return std::ldexp(fp4[nibble(b + 1, i, 16)], b[0] - 127);
    default:
      ADD_FAILURE() << "no such block";
      return 0;
  }
}

// Where a block keeps f16 numbers: random bytes would make infinities there.
std::vector<int> halves(Storage type) {
  switch (type) {
    case Storage::q4_1:
    case Storage::q5_1:
    case Storage::q4_k:
    case Storage::q5_k:
      return {0, 2};
    case Storage::q2_k:
      return {80, 82};
    case Storage::q3_k:
      return {108};
    case Storage::q6_k:
      return {208};
    case Storage::tq1_0:
      return {52};
    case Storage::tq2_0:
      return {64};
    case Storage::mxfp4:
      return {};
    default:
      return {0};
  }
}

constexpr int rows = 20, cols = 512;

std::string random_blocks(Storage type) {
  const auto& shape = info(type);
  std::mt19937 random(5);
  std::string out(
      static_cast<std::size_t>(rows * cols / shape.block * shape.bytes), '\0');
  for (auto& c : out)
    c = static_cast<char>(random());
  for (std::size_t b = 0; b < out.size();
       b += static_cast<std::size_t>(shape.bytes)) {
    for (int at : halves(type)) { // exponents around 2^-8
      auto& high = out[b + static_cast<std::size_t>(at) + 1];
      high = static_cast<char>((high & 0x83) | 0x1c);
    }
    if (type == Storage::mxfp4) out[b] = static_cast<char>(110 + random() % 30);
  }
  return out;
}

class GgufBlocks : public ::testing::TestWithParam<Storage> {};
INSTANTIATE_TEST_SUITE_P(
    All,
    GgufBlocks,
    ::testing::Values(
        Storage::q4_0,
        Storage::q4_1,
        Storage::q5_0,
        Storage::q5_1,
        Storage::q8_0,
        Storage::q2_k,
        Storage::q3_k,
        Storage::q4_k,
        Storage::q5_k,
        Storage::q6_k,
        Storage::iq4_nl,
        Storage::iq4_xs,
        Storage::tq1_0,
        Storage::tq2_0,
        Storage::mxfp4),
    [](const auto& p) { return std::string(mlxlm::info(p.param).name); });

TEST_P(GgufBlocks, EqualTheirDefinition) {
  mx::set_default_device(mx::Device::cpu);
  const auto type = GetParam();
  auto bytes = random_blocks(type);
  MemorySource source;
  source.add("w.weight", type, {rows, cols}, bytes);
  for (bool packed : {true, false}) {
    auto loader = Loader::open(
        source,
        {},
        quant::formats(Fields(Json::object(), "config.json")),
        {.packed = packed});
    auto w = loader->root().linear("w", cols, rows);
    const bool f16 = w.kernel().format() != info(type).name;
    EXPECT_EQ(
        w.kernel().format(),
        std::string(info(type).name) + (f16 ? " as F16" : ""));
    EXPECT_TRUE(!f16 || !packed);
    auto dense = mx::contiguous(w.kernel().dense(mx::float32));
    dense.eval();
    const auto& shape = info(type);
    for (int i = 0; i < rows * cols; ++i) {
      const auto* block = reinterpret_cast<const Byte*>(bytes.data()) +
          i / shape.block * shape.bytes;
      const float want = value(type, block, i % shape.block);
      const float found = dense.data<float>()[i];
      // Affine values may be fused to one rounding; f16 has eleven bits.
      ASSERT_NEAR(found, want, std::fabs(want) * (f16 ? 1e-3f : 2e-6f) + 1e-6f)
          << i;
    }
  }
}

} // namespace
} // namespace mlxlm

// GGUF's quantized blocks as plain codes and parameters, nothing rounded. The
// blocks are ggml's (ggml-common.h); a row is one block after another.

#include <cstring>
#include <map>

#include "core/check.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

using kernels::Codes;
using kernels::MatrixSpec;
using kernels::Params;
using Byte = std::uint8_t;
using Words = std::uint32_t;

// One block -> its codes and parameters.
using Decode = void (*)(const Byte* block, Byte* codes, Byte* params);

// The same with the words of kernels::RowSource::words.
using DecodeWords = void (*)(const Byte* block, Words* words, Byte* params);

struct BlockFormat {
  MatrixSpec spec;
  Decode decode;
  DecodeWords words = nullptr; // 4-bit codes
};

// Low nibbles are the first half of 2 * n codes, high nibbles the second.
void nibbles(const Byte* q, int n, Byte* codes) {
  for (int i = 0; i < n; ++i) {
    codes[i] = q[i] & 15;
    codes[i + n] = q[i] >> 4;
  }
}

constexpr Words low_nibbles = 0x0f0f0f0f;

// Of 2 * n codes stored as above, n a multiple of 8.
void nibble_words(const Byte* q, int n, Words* out) {
  for (int i = 0; i < n / 8; ++i) {
    Words four, next;
    std::memcpy(&four, q + 8 * i, 4);
    std::memcpy(&next, q + 8 * i + 4, 4);
    out[i] = (four & low_nibbles) | (next & low_nibbles) << 4;
    out[i + n / 8] = (four >> 4 & low_nibbles) | (next & ~low_nibbles);
  }
}

// Blocks of `head` bytes of parameters and 32 codes.
template <int head>
void plain_words(const Byte* b, Words* words, Byte* params) {
  std::memcpy(params, b, head);
  nibble_words(b + head, 16, words);
}

// Bit i of `high` is worth 16 in code i.
void add_fifth_bits(const Byte* high, Byte* codes) {
  std::uint32_t bits;
  std::memcpy(&bits, high, 4);
  for (int i = 0; i < 32; ++i)
    codes[i] = static_cast<Byte>(codes[i] | (bits >> i & 1) << 4);
}

void q4_0(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 2);
  nibbles(b + 2, 16, codes);
}
void q4_1(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 4);
  nibbles(b + 4, 16, codes);
}
void q5_0(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 2);
  nibbles(b + 6, 16, codes);
  add_fifth_bits(b + 2, codes);
}
void q5_1(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 4);
  nibbles(b + 8, 16, codes);
  add_fifth_bits(b + 4, codes);
}
void q8_0(const Byte* b, Byte* codes, Byte* params) { // i8 as code + 128
  std::memcpy(params, b, 2);
  for (int i = 0; i < 32; ++i)
    codes[i] = b[2 + i] ^ 0x80;
}
void mxfp4(const Byte* b, Byte* codes, Byte* params) {
  params[0] = b[0];
  nibbles(b + 1, 16, codes);
}

// Two-bit fields: 32 bytes hold 128 codes, field k those from 32 k on.
void quarters(const Byte* q, Byte* codes) {
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 32; ++i)
      codes[32 * k + i] = q[i] >> (2 * k) & 3;
}

void q2_k(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b + 80, 4); // d, dmin
  for (int g = 0; g < 16; ++g) {
    params[4 + g] = b[g] & 15;
    params[20 + g] = b[g] >> 4;
  }
  quarters(b + 16, codes);
  quarters(b + 48, codes + 128);
}

void q3_k(const Byte* b, Byte* codes, Byte* params) {
  const Byte *mask = b, *q = b + 32, *scales = b + 96;
  std::memcpy(params, b + 108, 2); // d
  for (int g = 0; g < 16; ++g) { // six bits, less 32
    const int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
    const int high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
    params[2 + g] = static_cast<Byte>((low | high << 4) - 32);
  }
  quarters(q, codes);
  quarters(q + 32, codes + 128);
  for (int i = 0; i < 256; ++i)
    codes[i] =
        static_cast<Byte>(codes[i] | (mask[i % 32] >> (i / 32) & 1) << 2);
}

// Eight scales and eight minima of six bits in twelve bytes.
void six_bit_scales(const Byte* s, Byte* scales, Byte* minima) {
  for (int g = 0; g < 8; ++g) {
    scales[g] = static_cast<Byte>(
        g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4);
    minima[g] = static_cast<Byte>(
        g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4);
  }
}

void q4_k(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 4); // d, dmin
  six_bit_scales(b + 4, params + 4, params + 12);
  for (int k = 0; k < 4; ++k)
    nibbles(b + 16 + 32 * k, 32, codes + 64 * k);
}

void q4_k_words(const Byte* b, Words* words, Byte* params) {
  std::memcpy(params, b, 4); // d, dmin
  six_bit_scales(b + 4, params + 4, params + 12);
  for (int k = 0; k < 4; ++k)
    nibble_words(b + 16 + 32 * k, 32, words + 8 * k);
}

void q5_k(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 4);
  six_bit_scales(b + 4, params + 4, params + 12);
  for (int k = 0; k < 4; ++k)
    nibbles(b + 48 + 32 * k, 32, codes + 64 * k);
  for (int i = 0; i < 256; ++i)
    codes[i] =
        static_cast<Byte>(codes[i] | (b[16 + i % 32] >> (i / 32) & 1) << 4);
}

void q6_k(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b + 208, 2); // d
  std::memcpy(params + 2, b + 192, 16); // i8 scales
  for (int half = 0; half < 2; ++half) {
    const Byte *low = b + 64 * half, *high = b + 128 + 32 * half;
    Byte* out = codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      out[i] = static_cast<Byte>((low[i] & 15) | (high[i] & 3) << 4);
      out[i + 32] =
          static_cast<Byte>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      out[i + 64] = static_cast<Byte>(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
      out[i + 96] = static_cast<Byte>(low[i + 32] >> 4 | high[i] >> 6 << 4);
    }
  }
}

void iq4_xs(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b, 2); // d
  const int high = b[2] | b[3] << 8;
  for (int g = 0; g < 8; ++g) { // six bits, less 32
    const int low = b[4 + g / 2] >> (4 * (g % 2)) & 15;
    params[2 + g] = static_cast<Byte>((low | (high >> (2 * g) & 3) << 4) - 32);
    nibbles(b + 8 + 16 * g, 16, codes + 32 * g);
  }
}

// Ternary digits, five to a byte: digit n of byte q is (q * 3^n mod 256) * 3 /
// 256.
void trits(const Byte* q, int bytes, int digits, Byte*& codes) {
  int power = 1;
  for (int n = 0; n < digits; ++n, power *= 3)
    for (int i = 0; i < bytes; ++i)
      *codes++ = static_cast<Byte>(static_cast<Byte>(q[i] * power) * 3 >> 8);
}

void tq1_0(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b + 52, 2);
  trits(b, 32, 5, codes);
  trits(b + 32, 16, 5, codes);
  trits(b + 48, 4, 4, codes);
}

void tq2_0(const Byte* b, Byte* codes, Byte* params) {
  std::memcpy(params, b + 64, 2);
  quarters(b, codes);
  quarters(b + 32, codes + 128);
}

constexpr std::array<std::int8_t, 16> iq4_values =
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const std::map<Storage, BlockFormat>& blocks() {
  auto integer = [](int bits, int group, Params params, int zero = 0) {
    MatrixSpec spec;
    spec.codes = Codes::unsigned_int;
    spec.bits = bits;
    spec.group = group;
    spec.params = params;
    spec.zero = zero;
    return spec;
  };
  auto table =
      [](const std::array<std::int8_t, 16>& values, Params params, bool half) {
        MatrixSpec spec;
        spec.codes = Codes::table;
        spec.bits = 4;
        spec.group = 32;
        spec.params = params;
        spec.table = values;
        spec.half = half;
        return spec;
      };
  static const std::map<Storage, BlockFormat> formats = {
      {Storage::q4_0,
       {integer(4, 32, Params::f16_scale, -8), q4_0, plain_words<2>}},
      {Storage::q4_1,
       {integer(4, 32, Params::f16_affine), q4_1, plain_words<4>}},
      {Storage::q5_0, {integer(5, 32, Params::f16_scale, -16), q5_0}},
      {Storage::q5_1, {integer(5, 32, Params::f16_affine), q5_1}},
      {Storage::q8_0, {integer(8, 32, Params::f16_scale, -128), q8_0}},
      {Storage::q2_k, {integer(2, 16, Params::k_affine), q2_k}},
      {Storage::q3_k, {integer(3, 16, Params::k_scale, -4), q3_k}},
      {Storage::q4_k, {integer(4, 32, Params::k_affine), q4_k, q4_k_words}},
      {Storage::q5_k, {integer(5, 32, Params::k_affine), q5_k}},
      {Storage::q6_k, {integer(6, 16, Params::k_scale, -32), q6_k}},
      {Storage::iq4_nl,
       {table(iq4_values, Params::f16_scale, false), q4_0, plain_words<2>}},
      {Storage::iq4_xs, {table(iq4_values, Params::k_scale, false), iq4_xs}},
      {Storage::tq1_0, {integer(2, 256, Params::f16_scale, -1), tq1_0}},
      {Storage::tq2_0, {integer(2, 256, Params::f16_scale, -1), tq2_0}},
      {Storage::mxfp4,
       {table(e2m1, Params::e8m0_scale, true), mxfp4, plain_words<1>}},
  };
  return formats;
}

class BlockRows final : public TensorRows {
 public:
  BlockRows(const RowTensor& tensor, const BlockFormat& format)
      : TensorRows({tensor}),
        decode_(format.decode),
        words_(format.words),
        elements_(static_cast<std::size_t>(info(tensor.storage()).block)),
        bytes_(static_cast<std::size_t>(info(tensor.storage()).bytes)),
        params_(format.spec.param_bytes(info(tensor.storage()).block)) {}
  void row(int index, kernels::Row out) const override {
    each(
        index, out.params, [&](const Byte* block, std::size_t i, Byte* params) {
          decode_(block, out.codes.data() + i * elements_, params);
        });
  }
  bool words(
      int index,
      std::span<std::uint32_t> codes,
      std::span<std::byte> params) const override {
    if (words_ == nullptr) return false;
    each(index, params, [&](const Byte* block, std::size_t i, Byte* own) {
      words_(block, codes.data() + i * elements_ / 8, own);
    });
    return true;
  }

 private:
  void each(int index, std::span<std::byte> params, auto&& decode) const {
    const auto bytes = stored(0, index);
    const auto* block = reinterpret_cast<const Byte*>(bytes.data());
    auto* own = reinterpret_cast<Byte*>(params.data());
    for (std::size_t i = 0; i < bytes.size() / bytes_; ++i)
      decode(block + i * bytes_, i, own + i * params_);
  }

  Decode decode_;
  DecodeWords words_;
  std::size_t elements_, bytes_, params_; // of a block
};

class Gguf final : public WeightFormat {
 public:
  std::string_view name() const override {
    return "GGUF";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    return weight != nullptr && blocks().contains(weight->storage());
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight");
    const auto& format = blocks().at(weight.storage());
    EncodedMatrix out;
    out.spec = format.spec;
    out.set_shape(weight);
    out.cols = static_cast<int>(weight.shape().back());
    out.label = info(weight.storage()).name;
    out.source = std::make_shared<BlockRows>(std::move(weight), format);
    return out;
  }
};

} // namespace

WeightFormatPtr gguf_format() {
  return std::make_shared<Gguf>();
}

} // namespace mlxlm::quant

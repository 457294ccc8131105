// MLX's formats against MLX itself: quantize there, load here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cmath>

#include "checkpoint/testing.h"
#include "quant/formats.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::MemorySource;
using Floats = std::vector<float>;

Storage storage_of(mx::Dtype type) {
  if (type == mx::float32) return Storage::f32;
  if (type == mx::float16) return Storage::f16;
  if (type == mx::bfloat16) return Storage::bf16;
  return type == mx::uint32 ? Storage::u32 : Storage::u8;
}

void put(MemorySource& to, const std::string& name, const mx::array& a) {
  auto plain = mx::contiguous(a);
  plain.eval();
  to.add(
      name,
      storage_of(a.dtype()),
      {a.shape().begin(), a.shape().end()},
      {reinterpret_cast<const char*>(plain.data<std::uint8_t>()),
       plain.nbytes()});
}

Floats floats(const mx::array& a) {
  auto out = mx::contiguous(mx::astype(a, mx::float32));
  out.eval();
  return {out.data<float>(), out.data<float>() + out.size()};
}

std::shared_ptr<Loader> open(
    const TensorSource& source,
    const char* config,
    bool packed = true) {
  return Loader::open(
      source,
      {},
      quant::formats(Fields(parse_json(config, "config.json"), "config.json")),
      {.packed = packed});
}

struct Case {
  std::string mode;
  int bits, group;
  mx::Dtype type;
};

class MlxFormats : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    mx::set_default_device(mx::Device::cpu);
  }
};

std::vector<Case> cases() {
  std::vector<Case> out = {
      {"mxfp4", 4, 32, mx::float32},
      {"mxfp8", 8, 32, mx::float32},
      {"nvfp4", 4, 16, mx::float32}};
  for (int bits : {2, 3, 4, 5, 6, 8})
    for (int group : {32, 64, 128})
      for (auto type : {mx::float32, mx::float16, mx::bfloat16})
        out.push_back({"affine", bits, group, type});
  return out;
}
INSTANTIATE_TEST_SUITE_P(All, MlxFormats, ::testing::ValuesIn(cases()));

// [3, 24, 256], the experts of a mixture; expert 0 alone is the plain matrix.
mx::array weights(mx::Dtype type) {
  return mx::astype(
      mx::random::normal({3, 24, 256}, mx::float32, mx::random::key(7)), type);
}

TEST_P(MlxFormats, LoadsTheSameValuesPackedAndAsArrays) {
  const auto& c = GetParam();
  auto q = mx::quantize(weights(c.type), c.group, c.bits, c.mode);
  const bool affine = q.size() == 3;
  auto type = affine ? c.type : mx::float32;
  auto wide = [&](std::size_t i) { return mx::astype(q[i], mx::float32); };
  auto want = affine
      ? mx::dequantize(q[0], wide(1), wide(2), c.group, c.bits, c.mode)
      : mx::dequantize(
            q[0],
            q[1],
            std::nullopt,
            c.group,
            c.bits,
            c.mode,
            std::nullopt,
            type);
  MemorySource source;
  const char* names[] = {"weight", "scales", "biases"};
  for (std::size_t i = 0; i < q.size(); ++i) {
    put(source, std::string("experts.") + names[i], q[i]);
    put(source, std::string("plain.") + names[i], mx::take(q[i], 0, 0));
  }
  for (bool packed : {true, false}) {
    auto loader = open(source, "{}", packed);
    auto experts = loader->root().linear("experts", 256, 24, {.experts = 3});
    EXPECT_EQ(floats(experts.kernel().dense(mx::float32)), floats(want))
        << packed;
    auto plain = loader->root().linear("plain", 256, 24);
    auto first = mx::take(want, 0, 0);
    EXPECT_EQ(floats(plain.kernel().dense(mx::float32)), floats(first))
        << packed;
    loader->finish();

    auto x = mx::random::normal({5, 256}, mx::float32, mx::random::key(8));
    auto y = plain(x), reference = mx::matmul(x, mx::transpose(first));
    auto error = mx::max(mx::abs(y - reference)) / mx::max(mx::abs(reference));
    EXPECT_LT(error.item<float>(), 1e-4f) << packed;
    auto ids = mx::array({2, 0, 1, 1, 0, 2, 0, 1, 2, 2}, {5, 2});
    auto picked = experts.kernel().gather(mx::expand_dims(x, 1), ids);
    auto chosen = mx::squeeze(
        mx::matmul(mx::take(want, ids, 0), mx::reshape(x, {5, 1, 256, 1})), -1);
    error = mx::max(mx::abs(picked - chosen)) / mx::max(mx::abs(chosen));
    EXPECT_LT(error.item<float>(), 1e-4f) << packed;
    auto rows = plain.kernel().rows(mx::array({3, 23}), mx::float32);
    EXPECT_EQ(floats(rows), floats(mx::take(first, mx::array({3, 23}), 0)))
        << packed;
  }
}

// The module "p" [24, 256] in the affine mode.
struct Affine : MemorySource {
  Affine(int bits, int group) {
    auto q = mx::quantize(mx::take(weights(mx::float32), 0, 0), group, bits);
    put(*this, "p.weight", q[0]);
    put(*this, "p.scales", q[1]);
    put(*this, "p.biases", q[2]);
  }
};

std::string load_error(const TensorSource& source, const char* config) {
  return error_of([&] { open(source, config)->root().linear("p", 256, 24); });
}

TEST(MlxFormat, ShapesDecideAndEntriesMustAgree) {
  mx::set_default_device(mx::Device::cpu);
  Affine q(4, 64);
  // The top level speaks of other layers.
  EXPECT_EQ(
      load_error(q, R"({"quantization":{"bits":8,"group_size":32}})"),
      "no error");
  EXPECT_EQ(
      load_error(
          q,
          R"({"quantization":{"bits":8,"group_size":32,"mode":"mxfp8","p":{"bits":4,"group_size":64}}})"),
      "no error");
  EXPECT_THAT(
      load_error(q, R"({"quantization":{"p":{"bits":8,"group_size":64}}})"),
      HasSubstr(
          "p.weight: config.json says affine of 8 bits, group 64; expected such a tensor, found affine of 4 bits"));
  EXPECT_THAT(
      load_error(q, R"({"quantization":{"p":{"mode":"mxfp4"}}})"),
      HasSubstr("config.json says mxfp4"));
  EXPECT_EQ(
      open(q, "{}")->root().linear("p", 256, 24).kernel().format(),
      "affine 4 bit, group 64");
}

TEST(MlxFormat, FalseMeansPlain) {
  MemorySource source;
  source.counting("p.weight", {24, 256});
  EXPECT_EQ(
      load_error(
          source, R"({"quantization":{"bits":4,"group_size":64,"p":false}})"),
      "no error");
  Affine q(4, 64);
  EXPECT_THAT(
      load_error(q, R"({"quantization":{"p":false}})"),
      HasSubstr("p.weight: expected a weight format that is supported"));
}

TEST(MlxFormat, EntriesNameModulesThatExist) {
  mx::set_default_device(mx::Device::cpu);
  Affine q(4, 64);
  auto error = [&](const char* config) {
    return error_of([&] {
      auto loader = open(q, config);
      loader->root().linear("p", 256, 24);
      loader->finish({"lm_head.*"});
    });
  };
  EXPECT_THAT(
      error(R"({"quantization":{"bits":4,"layers.7.p":{"bits":4}}})"),
      HasSubstr(
          "config.json: quantization.layers.7.p: expected a module that the checkpoint has, found none"));
  EXPECT_THAT(
      error(R"({"quantization":{"bits":4,"layers.7.p":false}})"),
      HasSubstr("quantization.layers.7.p"));
  // Of what may be missing.
  EXPECT_EQ(
      error(R"({"quantization":{"bits":4,"lm_head":{"bits":4}}})"), "no error");
}

TEST(MlxFormat, RefusesWrongConfigsAndTensors) {
  auto config_error = [](const char* text) {
    return error_of([&] {
      quant::formats(Fields(parse_json(text, "config.json"), "config.json"));
    });
  };
  EXPECT_THAT(
      config_error(R"({"quantization":{"bits":0,"group_size":64}})"),
      HasSubstr(
          "config.json: quantization.bits: expected an integer from 2 to 8, found 0"));
  EXPECT_THAT(
      config_error(R"({"quantization":{"bits":4,"group_size":0}})"),
      HasSubstr("quantization.group_size"));
  EXPECT_THAT(
      config_error(R"({"quantization":{"bits":4,"mode":"best"}})"),
      HasSubstr("expected affine, mxfp4, mxfp8, nvfp4, found \"best\""));
  EXPECT_THAT(
      config_error(R"({"quantization":{"m.p":{"bits":"4"}}})"),
      HasSubstr("quantization.m.p.bits"));
  // Another library's block is not ours to judge.
  EXPECT_EQ(
      config_error(
          R"({"quantization_config":{"quant_method":"fp8","bits":99}})"),
      "no error");

  Affine q(4, 64);
  EXPECT_THAT(
      error_of([&] { open(q, "{}")->root().linear("p", 100, 24); }),
      HasSubstr("expected packed codes and scales of 100 inputs"));
  MemorySource none;
  put(none, "p.weight", mx::zeros({24, 32}, mx::uint32));
  put(none, "p.scales", mx::zeros({24, 4}, mx::float32));
  EXPECT_THAT(
      load_error(none, "{}"),
      HasSubstr("p.biases: expected a tensor, found none"));
  put(none, "p.biases", mx::zeros({24, 2}, mx::float32));
  EXPECT_THAT(
      load_error(none, "{}"),
      HasSubstr(
          "p.biases: expected [24, 4] of F32 like the scales, found [24, 2]"));
  MemorySource odd;
  put(odd, "p.weight", mx::zeros({24, 32}, mx::uint32));
  put(odd, "p.scales", mx::zeros({24, 4}, mx::uint8));
  EXPECT_THAT(
      load_error(odd, "{}"),
      HasSubstr(
          "expected a quantization that MLX has, found 4 bits, group 64, scales of U8"));
}

} // namespace
} // namespace mlxlm

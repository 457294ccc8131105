#include "weights/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <numeric>

#include "checkpoint/testing.h"
#include "weights/random.h"

namespace mlxlm {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::MemorySource;
using testing::raw;
using Floats = std::vector<float>;

Floats floats(const mx::array& a) {
  auto out = mx::contiguous(mx::astype(a, mx::float32));
  out.eval();
  return {out.data<float>(), out.data<float>() + out.size()};
}

class Plain : public WeightFormat {
 public:
  std::string_view name() const override {
    return "plain";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    return weight != nullptr && weight->storage() == Storage::f32;
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    return dense_matrix(module.take("weight"));
  }
};

std::shared_ptr<Loader> open(
    const TensorSource& source,
    bool packed = true,
    const std::vector<Rule>& rules = {}) {
  return Loader::open(
      source, rules, {std::make_shared<Plain>()}, {.packed = packed});
}

class Loaders : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    mx::set_default_device(mx::Device::cpu);
  }
};
INSTANTIATE_TEST_SUITE_P(PackedAndMlx, Loaders, ::testing::Values(true, false));

TEST_P(Loaders, BuildsByPathAndEntersTheTable) {
  MemorySource m;
  m.counting("model.norm.weight", {4}, 1);
  m.counting("model.layers.0.q_proj.weight", {6, 4});
  m.counting("model.layers.0.q_proj.bias", {6}, 100);
  auto loader = open(m, GetParam());
  auto layer = loader->root() / "model" / "layers" / 0;
  EXPECT_EQ(layer.path(), "model.layers.0");
  EXPECT_TRUE(layer.has("q_proj"));
  EXPECT_FALSE(layer.has("k_proj"));
  EXPECT_EQ(layer.stored_rows("q_proj"), 6);
  EXPECT_EQ(layer.stored_rows("k_proj"), 0);
  auto norm = (loader->root() / "model").param("norm.weight", {4});
  EXPECT_EQ(floats(*norm), (Floats{1, 2, 3, 4}));
  auto q = layer.linear("q_proj", 4, 6, {.bias = Bias::required});
  auto x = mx::array({1.f, 0.f, 0.f, 2.f}, {1, 4});
  EXPECT_EQ(floats(q(x)), (Floats{106, 119, 132, 145, 158, 171}));
  EXPECT_EQ(
      floats(q.kernel().rows(mx::array({5, 0}), mx::float32)),
      (Floats{20, 21, 22, 23, 0, 1, 2, 3}));
  EXPECT_EQ(q.kernel().shape(), (mx::Shape{6, 4}));
  loader->finish();
  auto table = loader->take_table();
  ASSERT_EQ(table.entries().size(), 2u);
  EXPECT_EQ(table.entries()[1].path, "model.layers.0.q_proj");
  EXPECT_EQ(table.parameters(), 34u);
  EXPECT_GE(table.bytes(), 34u * 4);
}

TEST_P(Loaders, RowRangesOfFusedMatrices) {
  MemorySource m;
  m.counting("qkv.weight", {6, 4}).counting("qkv.bias", {6}, 100);
  auto loader = open(m, GetParam());
  auto part =
      loader->root().linear_rows("qkv", 4, 6, 2, 5, {.bias = Bias::optional});
  auto x = mx::array({1.f, 0.f, 0.f, 0.f}, {1, 4});
  EXPECT_EQ(floats(part(x)), (Floats{110, 115, 120}));
  EXPECT_EQ(loader->take_table().entries()[0].path, "qkv[2:5]");
}

TEST_P(Loaders, StackedExpertsGather) {
  MemorySource m;
  for (int e = 0; e < 3; ++e)
    m.counting(
        "experts." + std::to_string(e) + ".up.weight",
        {2, 4},
        8.f * static_cast<float>(e));
  m.counting("switch.up.bias", {3, 2}, 0.5f);
  auto loader = open(m, GetParam(), {stack("experts.#.up.*", "switch.up.*")});
  auto up = (loader->root() / "switch")
                .linear("up", 4, 2, {.bias = Bias::required, .experts = 3});
  EXPECT_EQ(up.kernel().shape(), (mx::Shape{3, 2, 4}));
  auto x = mx::array({1.f, 0.f, 0.f, 0.f, 0.f, 1.f, 0.f, 0.f}, {2, 1, 4});
  auto ids = mx::array({2, 0, 1, 1}, {2, 2});
  // Token 0 picks column 0 of experts 2 and 0, token 1 column 1 of expert 1
  // twice.
  EXPECT_EQ(
      floats(up.kernel().gather(x, ids)),
      (Floats{20.5, 25.5, 0.5, 5.5, 11.5, 16.5, 11.5, 16.5}));
  loader->finish();
}

TEST(Loader, StrictBothWays) {
  MemorySource m;
  m.counting("model.layers.0.mlp.up_proj.weight", {6, 4});
  m.counting("model.norm.weight", {4});
  m.counting("lm_head.weight", {8, 4});
  m.add("odd.weight", Storage::i16, {2, 2}, std::string(8, 'x'));
  auto loader = open(m);
  auto root = loader->root();
  auto mlp = root / "model.layers.0.mlp";
  EXPECT_THAT(
      error_of([&] { mlp.linear("up_porj", 4, 6); }),
      HasSubstr(
          "model.layers.0.mlp.up_porj.weight: expected a tensor, found none; nearest: model.layers.0.mlp.up_proj.weight"));
  EXPECT_EQ(
      error_of([&] { mlp.linear("up_proj", 4, 8); }),
      "model.layers.0.mlp.up_proj.weight: expected shape [8, 4], found [6, 4]");
  EXPECT_EQ(
      error_of([&] { mlp.linear("up_proj", 4, 6, {.experts = 2}); }),
      "model.layers.0.mlp.up_proj.weight: expected shape [2, 6, 4], found [6, 4]");
  EXPECT_EQ(
      error_of([&] { root.param("model.norm.weight", {5}); }),
      "model.norm.weight: expected shape [5], found [4]");
  EXPECT_THAT(
      error_of([&] { root.linear("odd", 2, 2); }),
      HasSubstr(
          "odd.weight: expected a weight format that is supported, found [2, 2] of I16"));
  EXPECT_THAT(
      error_of([&] { mlp.linear("up_proj", 4, 6, {.bias = Bias::required}); }),
      HasSubstr("up_proj.bias: expected a tensor, found none"));
  EXPECT_FALSE(root.find_param("nothing", {1}).has_value());
  EXPECT_THAT(
      error_of([&] { loader->finish({"odd.*"}); }),
      HasSubstr(
          "lm_head.weight: expected only tensors that the model has, found 1 more"));
  loader->finish({"odd.*", "lm_head.*"});
}

TEST(Loader, ParametersInOtherTypes) {
  MemorySource m;
  m.add("table", Storage::i64, {2}, raw(std::vector<std::int64_t>{7, 1 << 30}));
  m.add(
      "half",
      Storage::bf16,
      {2},
      raw(std::vector<std::uint16_t>{0x3f80, 0xc040}));
  m.counting("scalar", {}, 3);
  auto loader = open(m);
  auto table = loader->root().param("table", {2}, mx::int32);
  EXPECT_EQ(table->dtype(), mx::int32);
  EXPECT_EQ(table->data<std::int32_t>()[1], 1 << 30);
  EXPECT_EQ(floats(*loader->root().param("half", {2})), (Floats{1, -3}));
  EXPECT_EQ(
      loader->root().param("half", {2}, mx::bfloat16)->dtype(), mx::bfloat16);
  EXPECT_EQ(floats(*loader->root().param("scalar", {})), Floats{3});
}

TEST(Loader, ReportsProgressToTheEnd) {
  MemorySource m;
  m.counting("a.weight", {4, 4}).counting("b", {4});
  std::size_t done = 0, total = 0;
  LoaderOptions options;
  options.progress = [&](std::size_t d, std::size_t t) {
    EXPECT_GE(d, done);
    done = d;
    total = t;
  };
  auto loader = Loader::open(m, {}, {std::make_shared<Plain>()}, options);
  loader->root().linear("a", 4, 4);
  EXPECT_EQ(done, 64u);
  loader->root().param("b", {4});
  EXPECT_EQ(done, 80u);
  EXPECT_EQ(total, 80u);
}

TEST(Loader, RandomWeightsDependOnSeedAndName) {
  auto values = [](std::uint64_t seed, const char* name) {
    auto loader =
        Loader::random({.seed = seed, .present = {"*.q_norm.weight"}}, {});
    EXPECT_TRUE(loader->root().has("l.q_norm"));
    EXPECT_FALSE(loader->root().has("l.k_norm"));
    return floats(
        loader->root().linear(name, 64, 2).kernel().dense(mx::float32));
  };
  EXPECT_EQ(values(1, "a"), values(1, "a"));
  EXPECT_NE(values(1, "a"), values(2, "a"));
  EXPECT_NE(values(1, "a"), values(1, "b"));
  auto loader = Loader::random({.seed = 3}, {});
  auto norm = floats(*loader->root().param("norm.weight", {1000}));
  EXPECT_NEAR(std::accumulate(norm.begin(), norm.end(), 0.0) / 1000, 1, 0.01);
  loader->root().linear("e", 8, 4, {.bias = Bias::required, .experts = 2});
  loader->finish();
}

TEST(Loader, FilesAreReadOnceAndLetGo) {
  testing::TempFolder folder;
  std::vector<float> values(64 * 1024);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i);
  testing::GgufBuilder b;
  b.tensor("w.weight", {1024, 64}, 0, raw(values));
  GgufFile file(folder.write("m.gguf", b.build()));
  auto loader = open(file);
  auto w = loader->root().linear("w", 1024, 64);
  // Dropping pages changes nothing for who reads them again.
  EXPECT_EQ(floats(w.kernel().dense(mx::float32)), values);
  EXPECT_EQ(
      floats(
          open(file)->root().linear("w", 1024, 64).kernel().dense(mx::float32)),
      values);
}

} // namespace
} // namespace mlxlm

#include "checkpoint/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing.h"
#include "checkpoint/values.h"
#include "core/json.h"

namespace mlxlm {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::MemorySource;
using testing::TempFolder;

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

// f32 values 0, 1, 2 ... each.
std::string file_of(const std::vector<Tensor>& tensors) {
  std::string data;
  Json header = Json::object();
  for (const auto& t : tensors) {
    std::size_t count = 1;
    for (auto dim : t.shape)
      count *= static_cast<std::size_t>(dim);
    const auto begin = data.size();
    for (std::size_t i = 0; i < count; ++i)
      data += testing::raw(static_cast<float>(i));
    header[t.name] = {
        {"dtype", "F32"},
        {"shape", t.shape},
        {"data_offsets", {begin, data.size()}}};
  }
  return testing::safetensors(header.dump(), data);
}

class Folder {
 public:
  Folder(
      std::string_view config,
      const std::vector<Tensor>& tensors,
      std::string_view file = "adapters.safetensors") {
    folder_.write("adapter_config.json", config);
    folder_.write(file, file_of(tensors));
    base_.counting("l.q.weight", {6, 4});
    base_.counting("embed.weight", {9, 4});
  }
  Adapter open(const std::vector<Rule>& rules = {}) const {
    return open_adapter(folder_.path(), base_, rules);
  }
  std::string error() const {
    return error_of([&] { open(); });
  }

 private:
  TempFolder folder_;
  MemorySource base_;
};

constexpr auto lora =
    R"({"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":3.0}})";
constexpr auto dora =
    R"({"fine_tune_type":"dora","lora_parameters":{"rank":2,"scale":3.0}})";

TEST(Adapter, TurnsMlxFactors) {
  auto a = Folder(
               lora,
               {{"l.q.lora_a", {4, 2}},
                {"l.q.lora_b", {2, 6}},
                {"embed.lora_a", {9, 2}},
                {"embed.lora_b", {2, 4}},
                {"e.switch.lora_a", {3, 2, 4}},
                {"e.switch.lora_b", {3, 6, 2}}})
               .open();
  const auto& q = a.modules.at("l.q");
  EXPECT_EQ(q.scale, 3);
  EXPECT_EQ(q.down.shape(), (Shape64{2, 4}));
  EXPECT_EQ(q.up.shape(), (Shape64{6, 2}));
  EXPECT_EQ(read_floats(q.down), (std::vector<float>{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_EQ(a.modules.at("embed").up.shape(), (Shape64{9, 2}));
  EXPECT_EQ(a.modules.at("e.switch").up.shape(), (Shape64{3, 6, 2}));
}

TEST(Adapter, FollowsTheRowsOfItsModule) {
  auto a =
      Folder(
          dora,
          {{"l.qk.lora_a", {4, 2}}, {"l.qk.lora_b", {2, 6}}, {"l.qk.m", {6}}})
          .open({split("*.qk.weight", {"*.q.weight", "*.k.weight"})});
  const auto &q = a.modules.at("l.q"), &k = a.modules.at("l.k");
  EXPECT_EQ(read_floats(q.up), (std::vector<float>{0, 6, 1, 7, 2, 8}));
  EXPECT_EQ(read_floats(k.up), (std::vector<float>{3, 9, 4, 10, 5, 11}));
  EXPECT_EQ(read_floats(*k.magnitude), (std::vector<float>{3, 4, 5}));
  EXPECT_EQ(read_floats(q.down), read_floats(k.down));
}

TEST(Adapter, ReadsPeft) {
  auto a = Folder(
               R"({"peft_type":"LORA","r":2,"lora_alpha":8,"use_rslora":false,
                   "alpha_pattern":{"k":2}})",
               {{"base_model.model.l.q.lora_A.weight", {2, 4}},
                {"base_model.model.l.q.lora_B.weight", {6, 2}},
                {"base_model.model.l.k.lora_A.weight", {2, 4}},
                {"base_model.model.l.k.lora_B.weight", {6, 2}}},
               "adapter_model.safetensors")
               .open();
  EXPECT_EQ(a.modules.at("l.q").scale, 4);
  EXPECT_EQ(a.modules.at("l.k").scale, 1);
  EXPECT_EQ(a.modules.at("l.q").down.shape(), (Shape64{2, 4}));
}

TEST(Adapter, RefusesWhatDoesNotFit) {
  std::vector<Tensor> good = {{"l.q.lora_a", {4, 2}}, {"l.q.lora_b", {2, 6}}};
  auto config = [&](const std::string& parameters) {
    return Folder(R"({"lora_parameters":)" + parameters + "}", good).error();
  };
  EXPECT_THAT(config(R"({"rank":0,"scale":1})"), HasSubstr("rank"));
  EXPECT_THAT(config(R"({"rank":-1,"scale":1})"), HasSubstr("rank"));
  EXPECT_THAT(config(R"({"rank":1000000,"scale":1})"), HasSubstr("rank"));
  EXPECT_THAT(
      config(R"({"rank":3,"scale":1})"),
      HasSubstr("l.q.lora_a: expected rank 3"));
  EXPECT_THAT(config(R"({"rank":2})"), HasSubstr("lora_parameters.scale"));
  EXPECT_THAT(config(R"({"rank":2,"scale":NaN})"), HasSubstr("expected"));
  EXPECT_THAT(
      Folder(R"({"fine_tune_type":"best"})", good).error(),
      HasSubstr("expected lora, dora or full, found \"best\""));
  EXPECT_THAT(
      Folder(R"({"peft_type":"PREFIX_TUNING"})", good).error(),
      HasSubstr("peft_type"));
  EXPECT_THAT(Folder(dora, good).error(), HasSubstr("expected a magnitude"));
  EXPECT_THAT(
      Folder(lora, {good[0]}).error(), HasSubstr("l.q: expected two factors"));
  EXPECT_THAT(
      Folder(lora, {good[0], {"l.q.lora_b", {3, 6}}}).error(),
      HasSubstr("l.q.lora_b: expected rank 2"));
  EXPECT_THAT(
      Folder(lora, {good[0], good[1], {"l.q.other", {3}}}).error(),
      HasSubstr("l.q.other: expected a factor of an adapted module"));
  TempFolder none;
  EXPECT_THAT(
      error_of([&] { open_adapter(none.path(), MemorySource(), {}); }),
      HasSubstr("adapter_config.json"));
}

} // namespace
} // namespace mlxlm

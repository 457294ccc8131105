#include "checkpoint/jang.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/testing.h"

namespace mlxlm {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::safetensors;
using testing::TempFolder;

std::string tensors(const std::string& name) {
  return safetensors(
      "{\"" + name + R"(":{"dtype":"U8","shape":[2,4],"data_offsets":[0,8]}})",
      "abcdefgh");
}

TEST(Jang, FirstMarkWins) {
  TempFolder folder;
  EXPECT_FALSE(find_jang(folder.path()));
  folder.write("mxq_config.json", R"({"format_version": "1.0"})");
  auto mark = find_jang(folder.path());
  ASSERT_TRUE(mark);
  EXPECT_EQ(mark->file, "mxq_config.json");
  EXPECT_FALSE(mark->native);
  folder.write("jang_config.json", R"({"format": "jang", "unknown": [1]})");
  mark = find_jang(folder.path());
  ASSERT_TRUE(mark);
  EXPECT_EQ(mark->file, "jang_config.json");
  EXPECT_TRUE(mark->native);
  folder.write("jang_config.json", R"({"format_version": 2.1})");
  EXPECT_TRUE(find_jang(folder.path())->native);
}

TEST(Jang, RefusesWhatIsNoJangConfiguration) {
  TempFolder folder;
  folder.write("jang_config.json", R"({"format": "gguf"})");
  EXPECT_THAT(
      error_of([&] { find_jang(folder.path()); }),
      HasSubstr("jang_config.json: format: expected \"jang\", found \"gguf\""));
  folder.write("jang_config.json", R"({"format_version": []})");
  EXPECT_THAT(
      error_of([&] { find_jang(folder.path()); }),
      HasSubstr("jang_config.json: format_version: expected a version"));
  folder.write("jang_config.json", "[]");
  EXPECT_THAT(
      error_of([&] { find_jang(folder.path()); }),
      HasSubstr("jang_config.json: expected an object"));
}

TEST(Jang, OpensFormatOneAndForgetsWhatConfigSaysOfWidths) {
  TempFolder folder;
  folder.write(
      "config.json", R"({"model_type": "llama", "quantization": {"bits": 3}})");
  folder.write("jang_config.json", R"({"format_version": "1.0"})");
  folder.write("model.safetensors", tensors("other.weight"));
  folder.write("a.jang.safetensors", tensors("language_model.lm_head.weight"));
  auto c = open_checkpoint(folder.path());
  EXPECT_TRUE(c.jang);
  EXPECT_FALSE(c.config.has("quantization"));
  auto map = rewritten(*c.tensors, c.rules);
  ASSERT_EQ(map.size(), 1u);
  EXPECT_EQ(map.begin()->first, "lm_head.weight");
}

TEST(Jang, CutsLongTablesAndRenamesGemmaExperts) {
  Fields config(
      parse_json(
          R"({"model_type": "gemma4", "text_config": {"vocab_size": 3}})", "c"),
      "config.json");
  testing::MemorySource m;
  m.counting("model.language_model.embed_tokens.scales", {5, 2});
  m.counting("lm_head.weight", {2, 2});
  m.counting("model.language_model.layers.0.switch_mlp.up_proj.weight", {1, 2});
  m.counting("model.layers.0.mlp.up_proj.weight_scale_inv", {1});
  m.counting("vision_tower.x.weight", {1});
  m.counting("mtp.x.weight", {1});
  auto map = rewritten(m, jang_rules(config));
  ASSERT_EQ(map.size(), 3u);
  EXPECT_EQ(map.at("model.embed_tokens.scales").shape(), (Shape64{3, 2}));
  EXPECT_EQ(map.at("lm_head.weight").shape(), (Shape64{2, 2}));
  EXPECT_TRUE(map.contains("model.layers.0.experts.switch_glu.up_proj.weight"));
}

} // namespace
} // namespace mlxlm

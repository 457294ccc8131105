#include "hub/select.h"

#include <gtest/gtest.h>

#include "core/check.h"

namespace mlxlm::hub {
namespace {

using Names = std::vector<std::string>;

Listing listing(const Names& names) {
  Listing out;
  for (const auto& name : names)
    out.push_back({.path = name, .size = 1});
  return out;
}

Names names(const Listing& listing) {
  Names out;
  for (const auto& file : listing)
    out.push_back(file.path);
  return out;
}

Names weights(const Names& all, const std::string& variant = "") {
  return names(weight_files(listing(all), {.variant = variant}, std::nullopt));
}

TEST(Select, SafetensorsByKind) {
  EXPECT_EQ(
      weights({"consolidated.safetensors", "model-1.safetensors"}),
      Names{"model-1.safetensors"});
  EXPECT_EQ(
      weights({"other.safetensors", "weights.0.safetensors"}),
      Names{"weights.0.safetensors"});
  EXPECT_EQ(
      weights({"other.safetensors", "x/model.safetensors"}),
      Names{"other.safetensors"});
  EXPECT_THROW(weights({"config.json"}), Error);
  EXPECT_THROW(weights({}), Error);
}

TEST(Select, Index) {
  auto all = listing({"a.safetensors", "model.safetensors"});
  EXPECT_EQ(
      names(weight_files(all, {}, R"({"weight_map": {"t": "a.safetensors"}})")),
      Names{"a.safetensors"});
  // Names a file that is not there, or is nonsense: the rule by kind.
  for (const char* index :
       {R"({"weight_map": {"t": "b.safetensors"}})",
        R"({"weight_map": {"t": 5}})",
        R"({"weight_map": 5})",
        "[",
        ""})
    EXPECT_EQ(names(weight_files(all, {}, index)), Names{"model.safetensors"});
}

TEST(Select, Gguf) {
  Names all = {
      "a-IQ4_XS.gguf",
      "a-Q4_K.gguf",
      "a-Q4_K_M.gguf",
      "a-q8_0.gguf",
      "b-F16-00001-of-00002.gguf",
      "b-F16-00002-of-00002.gguf",
      "b-F16-00001-of-00003.gguf",
      "mmproj-a-f16.gguf"};
  EXPECT_EQ(weights(all), Names{"a-Q4_K_M.gguf"});
  EXPECT_EQ(weights(all, "q4_k"), Names{"a-Q4_K.gguf"});
  EXPECT_EQ(weights(all, "Q8_0"), Names{"a-q8_0.gguf"});
  EXPECT_EQ(weights(all, "A-IQ4_XS.gguf"), Names{"a-IQ4_XS.gguf"});
  EXPECT_EQ(
      weights(all, "f16"),
      (Names{"b-F16-00001-of-00002.gguf", "b-F16-00002-of-00002.gguf"}));
  EXPECT_THROW(weights(all, "Q2_K"), Error);
  EXPECT_EQ(weights({"only.gguf"}), Names{"only.gguf"});
  // Safetensors win unless a variant asks for GGUF.
  all.push_back("model.safetensors");
  EXPECT_EQ(weights(all), Names{"model.safetensors"});
  EXPECT_EQ(weights(all, "Q8_0"), Names{"a-q8_0.gguf"});
}

TEST(Select, SideFiles) {
  Names all = {
      "README.md",
      "config.json",
      "merges.txt",
      "model.safetensors",
      "sub/x.jinja",
      "tokenizer.model"};
  EXPECT_EQ(
      names(side_files(listing(all), {})),
      (Names{"config.json", "merges.txt", "sub/x.jinja", "tokenizer.model"}));
  EXPECT_EQ(
      names(side_files(listing(all), {.patterns = {"*.md", "sub/*"}})),
      (Names{"README.md", "sub/x.jinja"}));
  EXPECT_TRUE(side_files(listing({"a.gguf", "config.json"}), {}).empty());
}

TEST(Select, Parts) {
  EXPECT_TRUE(is_gguf_part("a-00001-of-00002.gguf"));
  EXPECT_FALSE(is_gguf_part("a-0001-of-00002.gguf"));
  EXPECT_FALSE(is_gguf_part("00001-of-00002.gguf"));
  EXPECT_FALSE(is_gguf_part(".gguf"));
}

} // namespace
} // namespace mlxlm::hub

#include "hub/names.h"

#include <gtest/gtest.h>

namespace mlxlm::hub {
namespace {

TEST(Names, HubIds) {
  auto id = parse_id("mlx-community/Qwen3-0.6B-4bit");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->id(), "mlx-community/Qwen3-0.6B-4bit");
  EXPECT_EQ(id->revision, "main");
  EXPECT_EQ(id->variant, "");
  for (const char* text :
       {"org/name:Q4_K_M@refs/pr/1", "org/name@refs/pr/1:Q4_K_M"}) {
    id = parse_id(text);
    ASSERT_TRUE(id) << text;
    EXPECT_EQ(id->variant, "Q4_K_M");
    EXPECT_EQ(id->revision, "refs/pr/1");
    EXPECT_EQ(id->text(), "org/name:Q4_K_M@refs/pr/1");
  }
}

TEST(Names, NotHubIds) {
  for (const char* text :
       {"",
        "name",
        "/name",
        "org/",
        "a/b/c",
        "../name",
        "org/..",
        "org/na--me",
        "org/.git",
        "org/-x",
        "org/na me",
        "org/n\xc3\xa4me",
        "org/name@",
        "org/name:",
        "org/name@a@b",
        "org/name:a:b",
        "org/name@a/../b",
        "org/name@/a",
        "org/name:../x",
        "org/name:/etc/x"})
    EXPECT_FALSE(parse_id(text)) << text;
  EXPECT_FALSE(parse_id("org/" + std::string(97, 'x')));
  EXPECT_FALSE(parse_id(std::string("org/na\0me", 9)));
}

TEST(Names, Paths) {
  for (const char* path : {"a", "a/b.json", ".gitattributes", "\xc3\xa4.json"})
    EXPECT_TRUE(safe_path(path)) << path;
  for (const char* path :
       {"",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "a\\b",
        "a\nb",
        "a\x1b[2J",
        "\xff"})
    EXPECT_FALSE(safe_path(path)) << path;
  EXPECT_FALSE(safe_path(std::string("a\0b", 3)));
  EXPECT_FALSE(safe_path(std::string(256, 'x')));
  std::string deep = "a";
  while (deep.size() <= 1024)
    deep += "/a";
  EXPECT_FALSE(safe_path(deep));
}

TEST(Names, Etags) {
  EXPECT_EQ(plain_etag("\"abc\""), "abc");
  EXPECT_EQ(plain_etag("W/\"ABC\""), "abc");
  EXPECT_EQ(plain_etag("abc"), "abc");
  EXPECT_EQ(plain_etag("\""), "");
}

} // namespace
} // namespace mlxlm::hub

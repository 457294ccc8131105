#include "hub/listing.h"

#include <gtest/gtest.h>

#include "core/check.h"

namespace mlxlm::hub {
namespace {

const std::string git(40, 'a'), sha(64, 'b');

std::string entry(const std::string& path, const std::string& more = "") {
  return fmt::format(
      R"({{"type": "file", "path": "{}", "size": 5, "oid": "{}"{}}})",
      path,
      git,
      more);
}

std::string refusal(const std::string& page) {
  try {
    Listing listing;
    add_tree_page(page, listing);
    finish(listing);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Listing, Page) {
  Listing listing;
  auto lfs = fmt::format(
      R"(, "lfs": {{"oid": "{}", "size": 1099511627776, "pointerSize": 1}})",
      sha);
  add_tree_page(
      fmt::format(
          R"([{}, {{"type": "directory", "path": "../x"}}, {}])",
          entry("z.json"),
          entry("a/m.safetensors", lfs)),
      listing);
  finish(listing);
  ASSERT_EQ(listing.size(), 2u);
  EXPECT_EQ(listing[0].path, "a/m.safetensors");
  EXPECT_EQ(listing[0].blob(), sha);
  EXPECT_EQ(listing[0].size, std::uint64_t{1} << 40);
  EXPECT_EQ(listing[1].blob(), git);
  EXPECT_EQ(listing[1].size, 5u);
}

TEST(Listing, TreeFile) {
  Listing listing = {
      {"a.json", 7, git, "", ""}, {"m.bin", 9, git, sha, std::string(64, 'c')}};
  auto again = parse_tree_file(to_tree_file(listing));
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[1].sha256, sha);
  EXPECT_EQ(again[1].xet_hash, listing[1].xet_hash);
  EXPECT_EQ(again[0].size, 7u);
  EXPECT_THROW(parse_tree_file(R"({"format_version": 2, "files": {}})"), Error);
  auto outside = fmt::format(
      R"({{"format_version": 1, "files": {{"../x": {{"size": 1, "blob_id": "{}"}}}}}})",
      git);
  EXPECT_THROW(parse_tree_file(outside), Error);
}

TEST(Listing, Refuses) {
  auto page = [](const std::string& a, const std::string& b) {
    return refusal(fmt::format("[{}, {}]", a, b));
  };
  auto good = entry("a");
  EXPECT_EQ(page(good, entry("b")), "");
  EXPECT_NE(page(good, good), "");
  EXPECT_NE(page(good, entry("a/b")), "");
  EXPECT_NE(page(good, entry("../a")), "");
  EXPECT_NE(page(good, entry("c", R"(, "lfs": 1)")), "");
  EXPECT_NE(page(good, "1"), "");
  EXPECT_NE(refusal("{}"), "");
  EXPECT_NE(
      refusal(R"([{"type": "file", "path": "a", "size": 1, "oid": "b"}])"), "");
}

TEST(Listing, ModelInfo) {
  EXPECT_EQ(parse_model_info(fmt::format(R"({{"sha": "{}"}})", git)), git);
  EXPECT_THROW(parse_model_info(R"({"sha": "main"})"), Error);
  EXPECT_THROW(parse_model_info("[]"), Error);
}

TEST(Listing, NextPage) {
  EXPECT_EQ(next_page(""), "");
  EXPECT_EQ(next_page("<http://h/x?c=1>; rel=\"next\""), "http://h/x?c=1");
  EXPECT_EQ(
      next_page("<http://h/0>; rel=\"first\", <http://h/2>; rel=\"next\""),
      "http://h/2");
  EXPECT_EQ(next_page("<http://h/0>; rel=\"prev\""), "");
  EXPECT_EQ(next_page("<"), "");
  EXPECT_EQ(next_page("<>"), "");
}

} // namespace
} // namespace mlxlm::hub

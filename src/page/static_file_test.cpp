#include "page/static_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace mlxlm::page {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string text_of(const StaticFile& file) {
  return {file.bytes.begin(), file.bytes.end()};
}

// What stands between quotes behind `name=`, from a place on, which then is
// behind it; empty where there is none.
std::string attribute(
    const std::string& html,
    const std::string& name,
    std::size_t& from) {
  auto start = name + "=\"";
  from = html.find(start, from);
  if (from == std::string::npos) return "";
  auto begin = from + start.size();
  from = html.find('"', begin);
  return html.substr(begin, from - begin);
}

TEST(StaticFile, ThePageAndWhatItNames) {
  const auto* index = find_file("/");
  ASSERT_NE(index, nullptr);
  EXPECT_EQ(index, find_file("/index.html"));
  auto html = text_of(*index);
  int named = 0;
  for (const char* key : {"src", "href"})
    for (std::size_t at = 0; at != std::string::npos; ++named) {
      auto name = attribute(html, key, at);
      if (name.empty()) break;
      ASSERT_EQ(name.substr(0, 2), "./") << name;
      EXPECT_NE(find_file(name.substr(1)), nullptr) << name;
    }
  EXPECT_GE(named, 4);
}

TEST(StaticFile, OnlyWhatIsThere) {
  for (const char* path :
       {"", "/page", "/page/", "/../index.html", "index.html"})
    EXPECT_EQ(find_file(path), nullptr) << path;
}

TEST(StaticFile, SmallAndTold) {
  std::set<std::string_view> tags;
  std::size_t total = 0;
  for (const auto& file : static_files()) {
    EXPECT_NE(media_type(file.path), "application/octet-stream") << file.path;
    EXPECT_EQ(file.etag.size(), 34u);
    EXPECT_TRUE(tags.insert(file.etag).second) << file.path;
    total += file.bytes.size();
  }
  EXPECT_LT(total, 400u * 1024);
}

// The page says itself what the server's header says, so that it is as strict
// wherever it is shown from.
TEST(StaticFile, OnePolicy) {
  auto html = text_of(*find_file("/"));
  auto at = html.find("Content-Security-Policy");
  ASSERT_NE(at, std::string::npos);
  auto policy = attribute(html, "content", at);
  // This one counts only in a header.
  EXPECT_EQ(policy + "; frame-ancestors 'none'", content_security_policy);
  EXPECT_THAT(html, Not(HasSubstr("<style")));
  EXPECT_THAT(std::string(content_security_policy), Not(HasSubstr("unsafe")));
}

} // namespace
} // namespace mlxlm::page

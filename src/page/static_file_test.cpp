#include "page/static_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>

namespace mlxlm::page {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text_of(const StaticFile& file) {
  return {file.bytes.begin(), file.bytes.end()};
}

TEST(StaticFile, ThePageAndWhatItNames) {
  const auto* index = find_file("/");
  ASSERT_NE(index, nullptr);
  EXPECT_EQ(index, find_file("/index.html"));
  auto html = text_of(*index);
  std::regex names("(?:src|href)=\"([^\"]+)\"");
  int named = 0;
  for (std::sregex_iterator it(html.begin(), html.end(), names), end; it != end;
       ++it, ++named) {
    auto name = (*it)[1].str();
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
  std::regex policy("Content-Security-Policy\"\\s+content=\"([^\"]+)\"");
  std::smatch found;
  ASSERT_TRUE(std::regex_search(html, found, policy));
  // This one counts only in a header.
  EXPECT_EQ(
      found[1].str() + "; frame-ancestors 'none'", content_security_policy);
  EXPECT_THAT(html, Not(HasSubstr("<style")));
  EXPECT_THAT(std::string(content_security_policy), Not(HasSubstr("unsafe")));
}

} // namespace
} // namespace mlxlm::page

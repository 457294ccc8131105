#include "hub/address.h"

#include <gtest/gtest.h>

namespace mlxlm::hub {
namespace {

TEST(Address, Origins) {
  EXPECT_EQ(origin_of("https://Hub.example/a?b"), "https://hub.example:443");
  EXPECT_EQ(origin_of("http://hub.example:80/"), "http://hub.example:80");
  EXPECT_EQ(origin_of("https://h:8443"), "https://h:8443");
  for (const char* wrong :
       {"",
        "hub",
        "ftp://h/",
        "file:///etc",
        "https://user@h/",
        "https://u:p@h"})
    EXPECT_EQ(origin_of(wrong), "") << wrong;
}

TEST(Address, Secrets) {
  EXPECT_TRUE(is_private_enough("https://h:443"));
  EXPECT_TRUE(is_private_enough("http://127.0.0.1:80"));
  EXPECT_TRUE(is_private_enough("http://localhost:5"));
  EXPECT_FALSE(is_private_enough("http://h:80"));
  EXPECT_FALSE(is_private_enough("http://127.0.0.1.evil:80"));
  EXPECT_FALSE(is_private_enough("http://localhost.evil:80"));
  EXPECT_FALSE(is_private_enough(""));
}

TEST(Address, Redirects) {
  const std::string from = "https://h/a/b?c";
  EXPECT_EQ(redirected(from, "/d"), "https://h/d");
  EXPECT_EQ(redirected(from, "https://other/x?y"), "https://other/x?y");
  EXPECT_EQ(redirected(from, "http://h/d"), "");
  EXPECT_EQ(redirected("http://h/a", "https://h/d"), "https://h/d");
  for (const char* wrong :
       {"file:///etc/passwd", "ftp://h/", "https://u:p@h/", "gopher://h"})
    EXPECT_EQ(redirected(from, wrong), "") << wrong;
}

TEST(Address, Quoting) {
  EXPECT_EQ(quote_path("a b/c#?%.json"), "a%20b/c%23%3F%25.json");
  EXPECT_EQ(quote_path("refs/pr/1", false), "refs%2Fpr%2F1");
  EXPECT_EQ(quote_path("\xc3\xa4"), "%C3%A4");
  EXPECT_EQ(without_query("https://h/x?Signature=s#f"), "https://h/x");
}

} // namespace
} // namespace mlxlm::hub

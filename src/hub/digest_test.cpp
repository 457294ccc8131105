#include "hub/digest.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "hub/sha256_block.h"

namespace mlxlm::hub {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string of(std::unique_ptr<Digest> digest, std::string_view text) {
  digest->update(bytes(text));
  return digest->finish();
}

// FIPS 180-4's examples.
TEST(Digest, KnownValues) {
  const char* two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  EXPECT_EQ(
      of(make_sha256(), ""),
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(
      of(make_sha256(), "abc"),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(
      of(make_sha256(), two),
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(
      of(make_sha256(), std::string(1000000, 'a')),
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(of(make_sha1(), "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(of(make_sha1(), two), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

TEST(Digest, GitBlobIds) {
  EXPECT_EQ(
      of(digest_for(std::string(40, '0'), 0), ""),
      "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  EXPECT_EQ(
      of(digest_for(std::string(40, '0'), 6), "hello\n"),
      "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(Digest, PiecesOfEveryLength) {
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += char(i * 7);
  auto whole = of(make_sha256(), text);
  for (std::size_t piece = 1; piece < 150; ++piece) {
    auto digest = make_sha256();
    for (std::size_t at = 0; at < text.size(); at += piece)
      digest->update(bytes(std::string_view(text).substr(at, piece)));
    EXPECT_EQ(digest->finish(), whole) << piece;
  }
}

TEST(Digest, BothKindsOfRoundsAgree) {
  std::vector<std::byte> data(64 * 5);
  for (std::size_t i = 0; i < data.size(); ++i)
    data[i] = std::byte(i * 31 + i / 64);
  std::uint32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8},
                b[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  sha256_blocks()(a, data.data(), 5);
  sha256_blocks_plain(b, data.data(), 5);
  EXPECT_EQ(std::memcmp(a, b, sizeof a), 0);
}

TEST(Digest, Names) {
  EXPECT_TRUE(is_sha256(std::string(64, 'a')));
  EXPECT_FALSE(is_sha256(std::string(64, 'A')));
  EXPECT_FALSE(is_sha256(std::string(63, 'a') + "/"));
  EXPECT_TRUE(is_git_id(std::string(40, '0')));
  EXPECT_FALSE(is_git_id(std::string(41, '0')));
}

} // namespace
} // namespace mlxlm::hub

#include "disk/entry.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "disk/checksum.h"
#include "disk/testing.h"

namespace mlxlm::disk {
namespace {

std::uint64_t sum_of(std::string_view text) {
  return checksum(std::as_bytes(std::span(text.data(), text.size())));
}

TEST(Checksum, OfTheSpecification) {
  EXPECT_EQ(sum_of(""), 0xEF46DB3751D8E999u);
  EXPECT_EQ(sum_of("a"), 0xD24EC4F1A98C6E5Bu);
  EXPECT_EQ(sum_of("abc"), 0x44BC2CF5AD770999u);
  EXPECT_EQ(
      sum_of("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

std::vector<std::byte> file_of(const Entry& entry) {
  auto file = entry_head(entry);
  file.insert(file.end(), entry.payload.begin(), entry.payload.end());
  return file;
}

TEST(DiskEntry, ComesBackWhole) {
  auto payload = payload_of(1, 1000);
  auto file = file_of({key_of(7), "a model", payload});
  auto entry = parse_entry(file);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->key, key_of(7));
  EXPECT_EQ(entry->owner, "a model");
  EXPECT_TRUE(std::ranges::equal(entry->payload, payload));
  EXPECT_TRUE(parse_entry(file_of({key_of(7), "", {}})));
}

TEST(DiskEntry, AnyChangedByteIsSeen) {
  auto payload = payload_of(1, 50);
  auto good = file_of({key_of(7), "a model", payload});
  for (std::size_t i = 0; i < good.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[i] ^= static_cast<std::byte>(1 << bit);
      EXPECT_FALSE(parse_entry(bad)) << i;
    }
}

TEST(DiskEntry, CutOffOrGrownIsNone) {
  auto payload = payload_of(1, 50);
  auto good = file_of({key_of(7), "a model", payload});
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(parse_entry(std::span(good).first(size)));
  good.push_back({});
  EXPECT_FALSE(parse_entry(good));
}

TEST(DiskEntry, NamesOfKeys) {
  EXPECT_EQ(hex(key_of(0xabcdef)).substr(0, 8), "efcdab00");
  EXPECT_EQ(hex(key_of(1)).size(), 64u);
}

} // namespace
} // namespace mlxlm::disk

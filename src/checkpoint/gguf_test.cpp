// Cases G01 to G18 of the catalogue of hostile files.
#include "checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing.h"

namespace mlxlm {
namespace {

using testing::as_bytes;
using testing::error_of;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::raw;
using testing::TempFolder;

std::string gguf_error(std::string_view bytes) {
  return error_of([&] { parse_gguf(as_bytes(bytes), "m.gguf"); });
}

GgufBuilder small() {
  GgufBuilder b;
  b.string("general.architecture", "llama").u32("n", 7).f32("eps", 0.5f);
  b.strings("tokens", {"a", "", "\xE6\x97\xA5"});
  b.key(
      "list",
      GgufType::array,
      raw(static_cast<std::uint32_t>(GgufType::i16)) + raw(std::uint64_t{2}) +
          raw(std::vector<std::int16_t>{3, -4}));
  b.key("flag", GgufType::boolean, raw(std::uint8_t{1}));
  b.tensor("t", {2, 3}, 0, std::string(24, 'x'));
  b.tensor("q", {32, 2}, 2, std::string(36, 'y'));
  return b;
}

TEST(Gguf, ReadsMetadataAndTensors) {
  for (std::uint32_t version : {2u, 3u}) {
    auto b = small();
    b.version = version;
    auto file = b.build();
    auto content = parse_gguf(as_bytes(file), "m.gguf");
    const auto& m = content.metadata;
    EXPECT_EQ(m.req<std::string_view>("general.architecture"), "llama");
    EXPECT_EQ(m.req<std::int64_t>("n"), 7);
    EXPECT_EQ(m.req<double>("eps"), 0.5);
    EXPECT_EQ(m.req<bool>("flag"), true);
    EXPECT_EQ(m.get<bool>("nothing"), std::nullopt);
    EXPECT_EQ(
        m.strings("tokens"),
        (std::vector<std::string_view>{"a", "", "\xE6\x97\xA5"}));
    EXPECT_EQ(m.integers("list"), (std::vector<std::int64_t>{3, -4}));
    EXPECT_EQ(m.numbers("list"), (std::vector<double>{3, -4}));
    ASSERT_EQ(content.tensors.size(), 2u);
    EXPECT_EQ(content.tensors[0].shape, (std::vector<std::int64_t>{3, 2}));
    EXPECT_EQ(content.tensors[0].bytes.size(), 24u);
    EXPECT_EQ(content.tensors[1].storage, Storage::q4_0);
    EXPECT_EQ(content.tensors[1].bytes[0], std::byte{'y'});
  }
}

TEST(Gguf, MetadataOfTheWrongKindNamesTheKey) {
  auto file = small().build();
  auto content = parse_gguf(as_bytes(file), "m.gguf");
  const auto& m = content.metadata;
  EXPECT_EQ(
      error_of([&] { m.req<std::int64_t>("eps"); }),
      "m.gguf: eps: expected an integer, found 0.5");
  EXPECT_EQ(
      error_of([&] { m.req<bool>("n"); }),
      "m.gguf: n: expected true or false, found 7");
  EXPECT_EQ(
      error_of([&] { m.req<double>("x"); }),
      "m.gguf: x: expected a finite number, found nothing");
  EXPECT_EQ(
      error_of([&] { m.strings("list"); }),
      "m.gguf: list: expected a list of strings, found a list of 2 i16");
  EXPECT_THAT(
      error_of([&] { m.integers("tokens"); }),
      HasSubstr("expected an integer at position 0"));
  EXPECT_THAT(
      error_of([&] { m.integers("n"); }),
      HasSubstr("expected a list, found 7"));
}

std::string with(auto&& change) {
  GgufBuilder b;
  change(b);
  return gguf_error(b.build());
}

std::string list(
    GgufType type,
    std::uint64_t count,
    std::string_view payload = "") {
  return raw(static_cast<std::uint32_t>(type)) + raw(count) +
      std::string(payload);
}

TEST(Gguf, RefusesBrokenHeaders) {
  auto magic = [](const char* m) { return [m](auto& b) { b.magic = m; }; };
  auto version = [](std::uint32_t v) {
    return [v](auto& b) { b.version = v; };
  };
  EXPECT_THAT(with(magic("GGML")), HasSubstr("found \"GGML\"")); // G01
  EXPECT_THAT(with(magic("FUGG")), HasSubstr("expected a GGUF file"));
  for (auto v : {0u, 1u, 4u, 99u})
    EXPECT_THAT(
        with(version(v)), HasSubstr("expected GGUF version 2 or 3, found"));
  EXPECT_THAT(with(version(0x03000000u)), HasSubstr("big-endian"));
  for (std::uint64_t n :
       {std::uint64_t{1}, std::uint64_t{1} << 62, UINT64_MAX}) { // G02
    EXPECT_THAT(
        with([&](auto& b) { b.tensor_count = n; }),
        HasSubstr("tensors in a file of"));
    EXPECT_THAT(
        with([&](auto& b) { b.key_count = n; }),
        HasSubstr("metadata keys in a file of"));
  }
  EXPECT_THAT(gguf_error(""), HasSubstr("incomplete download?"));
}

TEST(Gguf, RefusesBrokenKeys) {
  auto raw_key = [](std::uint64_t length, std::string_view rest) {
    return gguf_error(
        "GGUF" + raw(3u) + raw(std::uint64_t{0}) + raw(std::uint64_t{1}) +
        raw(length) + std::string(rest) + std::string(64, '\0'));
  };
  EXPECT_THAT(raw_key(0, ""), HasSubstr("an empty one")); // G03
  EXPECT_THAT(
      raw_key(std::uint64_t{1} << 60, ""), HasSubstr("at most 65535 bytes"));
  EXPECT_THAT(
      raw_key(500, ""), HasSubstr("expected 500 bytes of a metadata key"));
  struct Case {
    std::uint32_t type;
    std::string value, message;
  };
  const Case cases[] = {
      {13, "", "a value type from 0 to 12, found 13"}, // G04
      {UINT32_MAX, "", "a value type from 0 to 12"},
      {7, "\2", "a boolean of 0 or 1, found 2"},
      {8, raw(UINT64_MAX - 7), "at most 67108864 bytes"}, // G05
      {8, raw(std::uint64_t{1000}), "expected 1000 bytes of k"},
      {9,
       list(GgufType::u8, std::uint64_t{1} << 40),
       "a list that fits"}, // G06
      {9, list(GgufType::string, std::uint64_t{1} << 61), "a list that fits"},
      {9, list(GgufType::boolean, 1, "\3"), "a boolean of 0 or 1"},
      {9, raw(99u) + raw(std::uint64_t{0}), "a value type from 0 to 12"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(
        with([&](auto& b) {
          b.key("k", static_cast<GgufType>(c.type), c.value);
          b.key(
              "pad",
              GgufType::string,
              GgufBuilder::text(std::string(100, 'p')));
        }),
        HasSubstr(c.message));
  std::string nested;
  for (int i = 0; i < 1000; ++i)
    nested += list(GgufType::array, 1);
  EXPECT_THAT(
      with([&](auto& b) { b.key("k", GgufType::array, nested); }),
      HasSubstr("nested at most 4"));
  EXPECT_EQ(
      with(
          [&](auto& b) { b.key("k", GgufType::array, list(GgufType::u8, 0)); }),
      "no error");
  EXPECT_THAT(
      with([](auto& b) { b.u32("k", 1).u32("k", 1); }),
      HasSubstr("each key once")); // G14
}

TEST(Gguf, RefusesBadAlignment) { // G07
  for (std::uint32_t n : {0u, 1u, 3u, 48u, 1u << 31})
    EXPECT_THAT(
        with([&](auto& b) { b.u32("general.alignment", n); }),
        HasSubstr("expected a power of two"));
  EXPECT_THAT(
      with([&](auto& b) { b.string("general.alignment", "32"); }),
      HasSubstr(
          "general.alignment: expected a power of two from 8 to 1048576, found \"32\""));
  EXPECT_EQ(
      with([](auto& b) {
        b.alignment = 64;
        b.u32("general.alignment", 64);
        b.tensor("t", {4}, 0, std::string(16, 'x'))
            .tensor("u", {4}, 0, std::string(16, 'y'));
      }),
      "no error");
}

TEST(Gguf, RefusesBrokenTensors) {
  struct Case {
    std::vector<std::uint64_t> dims;
    std::uint32_t type;
    std::uint64_t offset;
    const char* message;
  };
  constexpr auto big = std::uint64_t{1} << 62;
  const Case cases[] = {
      {{}, 0, 0, "1 to 4 dimensions, found 0"}, // G08
      {{1, 1, 1, 1, 1}, 0, 0, "1 to 4 dimensions, found 5"},
      {{0}, 0, 0, "dimensions from 1"}, // G09
      {{4, 0}, 0, 0, "dimensions from 1"},
      {{std::uint64_t{1} << 63}, 0, 0, "dimensions from 1"},
      {{65536, 65536, 65536, 65536}, 0, 0, "that can be held"},
      {{4}, 9999, 0, "found type 9999 (unknown)"}, // G10
      {{256}, 16, 0, "found type 16 (IQ2_XXS)"},
      {{4}, 0, 1, "a multiple of 32"}, // G11
      {{4}, 0, 64, "incomplete download?"},
      {{400}, 0, 0, "incomplete download?"},
      {{4}, 0, UINT64_MAX - 31, "incomplete download?"},
      {{4}, 0, big, "incomplete download?"},
      {{31}, 2, 0, "whole blocks of 32"}, // G12
      {{32, 3}, 12, 0, "whole blocks of 256"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(
        with([&](auto& b) {
          b.raw_tensor(
              "blk.0.w", c.dims, c.type, c.offset, std::string(16, 'x'));
        }),
        HasSubstr(c.message));
  auto twice = [](const char* second, std::uint64_t offset) {
    return with([&](auto& b) {
      b.raw_tensor("a", {16}, 0, 0, std::string(64, 'x'));
      b.raw_tensor(second, {16}, 0, offset, std::string(64, 'x'));
    });
  };
  EXPECT_THAT(
      twice("b", 32),
      HasSubstr("b: expected data of its own, found it overlapping a"));
  EXPECT_THAT(twice("a", 64), HasSubstr("expected each tensor once"));
  EXPECT_THAT(
      with([](auto& b) { b.raw_tensor("", {4}, 0, 0, std::string(16, 'x')); }),
      HasSubstr("an empty one"));
}

TEST(Gguf, RefusesEveryTruncation) { // G18
  auto whole = small().build();
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(gguf_error(whole.substr(0, n)), "no error") << n;
}

std::string part(int number, int count, const char* tensor) {
  GgufBuilder b;
  b.u32("split.no", static_cast<std::uint32_t>(number));
  b.u32("split.count", static_cast<std::uint32_t>(count));
  b.u32("split.tensors.count", 2);
  b.tensor(tensor, {4}, 0, std::string(16, 'x'));
  return b.build();
}

TEST(GgufFile, JoinsPartsAndRefusesWrongOnes) { // G17
  TempFolder f;
  auto first = f.write("m-00001-of-00002.gguf", part(0, 2, "a"));
  EXPECT_THAT(
      error_of([&] { GgufFile{first}; }),
      HasSubstr("m-00002-of-00002.gguf: expected part 2 of 2"));
  auto second = f.write("m-00002-of-00002.gguf", part(1, 2, "b"));
  EXPECT_EQ(GgufFile(first).names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_NE(GgufFile(second).find("a"), nullptr);
  f.write("m-00002-of-00002.gguf", part(0, 2, "b"));
  EXPECT_THAT(
      error_of([&] { GgufFile{first}; }),
      HasSubstr("expected part 2 of 2, found part 1"));
  f.write("m-00002-of-00002.gguf", part(1, 3, "b"));
  EXPECT_THAT(
      error_of([&] { GgufFile{first}; }), HasSubstr("found part 2 of 3"));
  f.write("m-00002-of-00002.gguf", part(1, 2, "a"));
  EXPECT_THAT(error_of([&] { GgufFile{first}; }), HasSubstr("found it in two"));
  auto renamed = f.write("m.gguf", part(0, 2, "a"));
  EXPECT_THAT(
      error_of([&] { GgufFile{renamed}; }),
      HasSubstr("expected a name ending in -00001-of-00002"));
}

} // namespace
} // namespace mlxlm

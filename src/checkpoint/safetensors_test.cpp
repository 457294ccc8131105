// Cases S01 to S22 of the catalogue of hostile files.
#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "checkpoint/testing.h"

namespace mlxlm {
namespace {

using testing::as_bytes;
using testing::error_of;
using ::testing::HasSubstr;
using testing::raw;
using testing::safetensors;
using testing::TempFolder;

std::string parse_error(
    std::string_view bytes,
    const SafetensorsLimits& limits = {}) {
  return error_of(
      [&] { parse_safetensors(as_bytes(bytes), "m.safetensors", limits); });
}

std::string header_error(
    std::string_view header,
    std::string_view data = "12345678") {
  return parse_error(safetensors(header, data));
}

std::string entry(std::string_view body) {
  return fmt::format(R"({{"a":{{{}}}}})", body);
}

std::string two(int b0, int e0, int b1, int e1) {
  return fmt::format(
      R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
      R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
      e0 - b0,
      b0,
      e0,
      e1 - b1,
      b1,
      e1);
}

TEST(Safetensors, ReadsTensorsMetadataScalarsAndEmpties) {
  auto file = safetensors(
      R"({"__metadata__":{"format":"mlx"},"b":{"dtype":"F32","shape":[],"data_offsets":[4,8]},)"
      R"("a":{"dtype":"I16","shape":[2,1],"data_offsets":[0,4]},)"
      R"("e":{"dtype":"BF16","shape":[0,7],"data_offsets":[4,4]}}   )",
      raw(std::vector<std::int16_t>{7, -9}) + raw(1.5f));
  auto content = parse_safetensors(as_bytes(file), "m");
  ASSERT_EQ(content.tensors.size(), 3u);
  EXPECT_EQ(content.metadata.at("format"), "mlx");
  EXPECT_EQ(content.tensors[0].storage, Storage::f32);
  EXPECT_TRUE(content.tensors[0].shape.empty());
  EXPECT_EQ(content.tensors[0].elements(), 1);
  float f;
  std::memcpy(&f, content.tensors[0].bytes.data(), 4);
  EXPECT_EQ(f, 1.5f);
  EXPECT_EQ(content.tensors[1].shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(content.tensors[2].bytes.size(), 0u);
}

TEST(Safetensors, MetadataMayBeNull) { // as MLX writes it
  auto file = safetensors(
      R"({"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      "x");
  auto content = parse_safetensors(as_bytes(file), "m");
  EXPECT_TRUE(content.metadata.empty());
  EXPECT_EQ(content.tensors.size(), 1u);
}

TEST(Safetensors, RefusesBrokenFraming) {
  for (auto size : {0u, 3u, 7u}) // S01
    EXPECT_THAT(
        parse_error(std::string(size, 'x')),
        HasSubstr("shorter than its header"));
  for (std::uint64_t n :
       {std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{100'000'001}})
    EXPECT_THAT(
        parse_error(raw(n) + "{}"),
        HasSubstr("expected a header of 2 to")); // S02
  EXPECT_THAT(
      parse_error(raw(std::uint64_t{99}) + "{}"),
      HasSubstr("file is 10 bytes, its header needs 107"));
}

TEST(Safetensors, RefusesHeadersThatAreNotTheFormat) {
  struct Case {
    std::string header, message;
  };
  const Case cases[] = {
      // S04, S05
      {"not json", "syntax error at byte"},
      {"{}x", "syntax error at byte"},
      {"[]", "expected a JSON object, found a list"},
      {std::string(2'000'000, '['), "found a list"},
      {R"({"a":)" + std::string(100'000, '['), "found a list"},
      {R"({"a":{"shape":[[1]]}})",
       "expected a list of non-negative integers, found a list"},
      // S06
      {"{\"\xff\":{}}", "syntax error"},
      {R"({"a\u0000b":{}})", "without control characters"},
      {"{\"" + std::string(1 << 20, 'n') + "\":{}}",
       "expected names of at most 4096 bytes"},
      {R"({"":{}})", "an empty one"},
      // S07
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
       "found a at data bytes 0 and 4"},
      // S08, S09
      {two(0, 5, 4, 8), "overlaps another tensor"},
      {two(0, 3, 4, 8), "a gap before it"},
      {two(0, 4, 4, 7), "bytes after the last tensor"},
      {two(1, 4, 4, 8), "a gap before it"},
      // S10
      {entry(R"("dtype":"U8","shape":[8],"data_offsets":[8,0])"),
       "in order, found [8, 0]"},
      {entry(R"("dtype":"U8","shape":[8],"data_offsets":[8])"),
       "expected two data_offsets, found 1"},
      {entry(R"("dtype":"U8","shape":[8],"data_offsets":[0,4,8])"),
       "more than two numbers"},
      {entry(R"("dtype":"U8","shape":[8],"data_offsets":[-8,0])"), "found -8"},
      {entry(
           R"("dtype":"U8","shape":[4],"data_offsets":[18446744073709551608,18446744073709551612])"),
       "incomplete download?"},
      // S11
      {entry(R"("dtype":"U8","shape":[7],"data_offsets":[0,8])"),
       "expected 7 bytes for [7] of U8, found 8"},
      {entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
       "expected 12 bytes"},
      // S12
      {entry(
           R"("dtype":"U8","shape":[65536,65536,65536,65536],"data_offsets":[0,0])"),
       "a shape that can be held"},
      {entry(
           R"("dtype":"U8","shape":[0,65536,65536,65536,65536],"data_offsets":[0,0])"),
       "a shape that can be held"},
      {entry(R"("dtype":"U8","shape":[2147483648],"data_offsets":[0,8])"),
       "below 2^31"},
      {entry(R"("dtype":"U8","shape":[4294967297],"data_offsets":[0,8])"),
       "below 2^31"},
      {entry(R"("dtype":"U8","shape":[-2,-2],"data_offsets":[0,4])"),
       "found -2"},
      {entry(R"("dtype":"U8","shape":[1.9],"data_offsets":[0,1])"),
       "found 1.9"},
      {entry(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"),
       "shape: expected"},
      {entry(
           R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"),
       "at most 16 dimensions"},
      // S14
      {entry(R"("dtype":"F13","shape":[8],"data_offsets":[0,8])"),
       "found \"F13\""},
      {entry(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])"),
       "found \"f32\""},
      {entry(R"("dtype":"Q4_0","shape":[32],"data_offsets":[0,8])"),
       "found \"Q4_0\""},
      {entry(R"("dtype":3,"shape":[8],"data_offsets":[0,8])"),
       "dtype: expected a string"},
      {entry(R"("shape":[8],"data_offsets":[0,8])"),
       "expected a dtype, found none"},
      {entry(R"("dtype":"U8","data_offsets":[0,8])"),
       "expected a shape, found none"},
      {entry(R"("dtype":"U8","shape":[8])"), "expected two data_offsets"},
      {entry(R"("dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8])"),
       "expected shape once"},
      {entry(R"("dtype":"U8","shape":[8],"data_offsets":[0,8],"extra":1)"),
       "found \"extra\""},
      {R"({"a":null})", "found null"},
      // S17
      {R"({"__metadata__":{"k":1}})",
       "__metadata__: expected a string under \"k\", found 1"},
      {R"({"__metadata__":{"k":{}}})", "found an object"},
      {R"({"__metadata__":{"k":"a","k":"b"}})", "expected each key once"},
  };
  for (const auto& c : cases) {
    auto error = header_error(c.header);
    EXPECT_THAT(error, HasSubstr(c.message)) << c.header.substr(0, 100);
    EXPECT_EQ(error.rfind("m.safetensors", 0), 0u) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

TEST(Safetensors, ReadsEveryDocumentedType) {
  for (const char* dtype :
       {"F64",
        "F32",
        "F16",
        "BF16",
        "F8_E4M3",
        "F8_E5M2",
        "F8_E8M0",
        "I64",
        "I32",
        "I16",
        "I8",
        "U64",
        "U32",
        "U16",
        "U8",
        "BOOL",
        "F4"}) {
    auto size = std::string_view(dtype) == "F4"                        ? 1
        : std::string_view(dtype).find("64") != std::string_view::npos ? 16
        : std::string_view(dtype).find("32") != std::string_view::npos ? 8
        : std::string_view(dtype).find("16") != std::string_view::npos ? 4
                                                                       : 2;
    auto file = safetensors(
        entry(fmt::format(
            R"("dtype":"{}","shape":[2],"data_offsets":[0,{}])", dtype, size)),
        std::string(static_cast<std::size_t>(size), '\1'));
    auto content = parse_safetensors(as_bytes(file), "m");
    EXPECT_EQ(info(content.tensors.at(0).storage).name, dtype);
  }
}

TEST(Safetensors, RefusesEveryTruncation) { // S15
  auto whole = safetensors(two(0, 40, 40, 64), std::string(64, 'x'));
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(parse_error(whole.substr(0, n)), "no error") << n;
  EXPECT_EQ(parse_error(whole), "no error");
}

TEST(Safetensors, MisalignedDataIsValid) { // S16
  for (int pad = 0; pad < 64; ++pad) {
    auto file = safetensors(
        entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])") +
            std::string(pad, ' '),
        raw(std::vector<float>{0.25f, -3}));
    auto content = parse_safetensors(as_bytes(file), "m");
    float values[2];
    std::memcpy(values, content.tensors[0].bytes.data(), 8);
    EXPECT_EQ(values[0], 0.25f);
    EXPECT_EQ(values[1], -3.0f);
  }
}

TEST(Safetensors, CapsMetadataAndTensors) { // S17, S18
  SafetensorsLimits limits;
  limits.metadata_bytes = 100;
  limits.tensors = 1;
  auto big = R"({"__metadata__":{"k":")" + std::string(200, 'x') + "\"}}";
  EXPECT_THAT(
      parse_error(safetensors(big, ""), limits),
      HasSubstr("at most 100 bytes of metadata"));
  EXPECT_THAT(
      parse_error(safetensors(two(0, 4, 4, 8), "12345678"), limits),
      HasSubstr("at most 1 tensors"));
}

std::string one(std::string_view name) {
  return safetensors(
      fmt::format(
          R"({{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}})",
          name),
      "x");
}

std::vector<std::string> chosen(const TempFolder& folder) {
  std::vector<std::string> out;
  for (const auto& path : safetensors_files(folder.path()))
    out.push_back(file_name(path));
  return out;
}

using Names = std::vector<std::string>;

TEST(SafetensorsFolder, ChoosesFilesByTheRule) {
  TempFolder f;
  EXPECT_THAT(error_of([&] { chosen(f); }), HasSubstr("found none"));
  f.write("other.safetensors", one("o"));
  EXPECT_EQ(chosen(f), Names{"other.safetensors"});
  f.write("weights.00.safetensors", one("w"));
  EXPECT_EQ(chosen(f), Names{"weights.00.safetensors"});
  f.write("model-1.safetensors", one("a"));
  f.write("model-2.safetensors", one("b"));
  EXPECT_EQ(chosen(f), (Names{"model-1.safetensors", "model-2.safetensors"}));
  f.write(
      "model.safetensors.index.json",
      R"({"weight_map":{"b":"model-2.safetensors"}})");
  EXPECT_EQ(chosen(f), Names{"model-2.safetensors"});
  EXPECT_NE(open_safetensors(f.path())->find("b"), nullptr);
  // An index of files that are all gone says nothing.
  f.write(
      "model.safetensors.index.json",
      R"({"weight_map":{"b":"model-9.safetensors"}})");
  EXPECT_EQ(chosen(f), (Names{"model-1.safetensors", "model-2.safetensors"}));
}

TEST(SafetensorsFolder, RefusesWrongIndexes) { // S21
  TempFolder f;
  f.write("model-1.safetensors", one("a"));
  f.write("model-2.safetensors", one("a"));
  TempFolder outside;
  std::filesystem::create_symlink(
      outside.write("x.safetensors", one("a")),
      f.path() + "/model-3.safetensors");
  struct Case {
    const char *index, *message;
  };
  const Case cases[] = {
      {R"({"weight_map":{"a":"model-1.safetensors","b":"model-4.safetensors"}})",
       "model-4.safetensors is missing"},
      {R"({"weight_map":{"a":"../x.safetensors"}})", "in the same folder"},
      {R"({"weight_map":{"a":"/x.safetensors"}})", "in the same folder"},
      {R"({"weight_map":{"a":"model.bin"}})", "in the same folder"},
      {R"({"weight_map":{"a":3}})", "expected a file name, found 3"},
      {R"({"weight_map":[]})", "weight_map"},
      {R"([])", "weight_map"},
      {R"({"weight_map":{"a":"model-1.safetensors","c":"model-1.safetensors"}})",
       "expected c in model-1"},
      {R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})",
       "each tensor in one file"},
      {R"({"weight_map":{"a":"model-3.safetensors"}})", "a link out of it"},
  };
  for (const auto& c : cases) {
    f.write("model.safetensors.index.json", c.index);
    EXPECT_THAT(
        error_of([&] { open_safetensors(f.path()); }), HasSubstr(c.message))
        << c.index;
  }
}

TEST(SafetensorsFolder, FollowsLinksIntoTheHubCache) {
  TempFolder f;
  std::filesystem::create_directories(f.path() + "/blobs");
  std::filesystem::create_directories(f.path() + "/snapshots/abc");
  f.write("blobs/123", one("a"));
  std::filesystem::create_symlink(
      "../../blobs/123", f.path() + "/snapshots/abc/model-1.safetensors");
  f.write(
      "snapshots/abc/model.safetensors.index.json",
      R"({"weight_map":{"a":"model-1.safetensors"}})");
  EXPECT_NE(open_safetensors(f.path() + "/snapshots/abc")->find("a"), nullptr);
}

TEST(SafetensorsFolder, RefusesWhatIsNoFile) { // S22
  TempFolder f;
  auto pipe = f.path() + "/pipe.safetensors";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(
      error_of([&] { SafetensorsSource({pipe}); }),
      HasSubstr("expected a regular file"));
  EXPECT_THAT(
      error_of([&] { SafetensorsSource({f.path()}); }),
      HasSubstr("expected a regular file"));
  EXPECT_THAT(
      error_of([&] { SafetensorsSource({f.path() + "/no"}); }),
      HasSubstr("cannot open"));
}

} // namespace
} // namespace mlxlm

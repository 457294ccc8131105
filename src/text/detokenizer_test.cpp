#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "core/strings.h"
#include "text/testing.h"

namespace mlxlm {
namespace {

// A tokenizer of these tokens with this decoder.
TokenizerPtr with_decoder(
    const std::vector<std::string>& tokens,
    const char* decoder) {
  Json vocab = Json::object();
  for (const auto& token : tokens) {
    vocab[token] = vocab.size();
  }
  Json json = {
      {"decoder", Json::parse(decoder)},
      {"model",
       {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
  return Tokenizer::from_json(json.dump());
}

// Streamed pieces are whole characters and together what decode gives.
void expect_same_as_decode(const TokenizerPtr& t, const std::vector<int>& ids) {
  Detokenizer detokenizer(t);
  std::string all;
  for (int id : ids) {
    auto piece = detokenizer.push(id);
    EXPECT_TRUE(valid_utf8(piece));
    all += piece;
  }
  all += detokenizer.finish();
  EXPECT_EQ(all, t->decode(ids)) << Json(ids).dump();
}

void expect_streams(const TokenizerPtr& t) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<int> ids(random() % 12);
    for (int& id : ids) {
      id = static_cast<int>(random() % (t->vocab_size() + 1u));
    }
    expect_same_as_decode(t, ids);
  }
}

const std::vector<std::string> pieces = {
    "▁",
    "▁▁a",
    "b",
    "<0xE2>",
    "<0x82>",
    "<0xac>",
    "<0xZZ>",
    "é",
    "##c",
    ".",
    "n't",
    "x</w>",
    "</w>",
    "'",
    " ",
    "  d ",
    "<s>"};

TEST(Detokenizer, EveryDecoderStreams) {
  for (const char* decoder :
       {"null",
        R"({"type":"ByteFallback"})",
        R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":
{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},
{"type":"Strip","content":" ","start":1,"stop":0}]})",
        R"({"type":"Sequence","decoders":[{"type":"Fuse"},
{"type":"Strip","content":"▁","start":2,"stop":0}]})",
        R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always",
"split":true})",
        R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never",
"split":true})",
        R"({"type":"WordPiece","prefix":"##","cleanup":true})",
        R"({"type":"WordPiece","prefix":"##","cleanup":false})",
        R"({"type":"BPEDecoder","suffix":"</w>"})",
        R"({"type":"Strip","content":" ","start":1,"stop":0})"}) {
    SCOPED_TRACE(decoder);
    expect_streams(with_decoder(pieces, decoder));
  }
}

TEST(Detokenizer, ByteLevelHoldsHalfCharacters) {
  text::SmallVocabulary small;
  auto t = tokenizer_from_gguf(small.gguf, "model.gguf");
  auto ids = t->encode("é😀");
  ASSERT_EQ(ids.size(), 6u);
  Detokenizer detokenizer(t);
  std::vector<std::string> shown;
  for (int id : ids) {
    shown.push_back(detokenizer.push(id));
  }
  EXPECT_EQ(shown, (std::vector<std::string>{"", "é", "", "", "", "😀"}));
  detokenizer.push(ids[2]);
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  expect_streams(t);
}

TEST(Detokenizer, SkipsSpecialTokens) {
  text::SmallVocabulary small;
  auto t = tokenizer_from_gguf(small.gguf, "model.gguf");
  Detokenizer detokenizer(t, true);
  EXPECT_EQ(detokenizer.push(260), "");
  EXPECT_EQ(detokenizer.push(259), "hello");
  EXPECT_EQ(detokenizer.push(262), "<think>");
}

TEST(Detokenizer, UnknownDecodersAreRefused) {
  auto refused = [](const char* decoder) {
    EXPECT_THROW(Detokenizer(with_decoder(pieces, decoder)), Error);
  };
  refused(R"({"type":"Replace","pattern":{"Regex":"a+"},"content":" "})");
  refused(
      R"({"type":"Sequence","decoders":[{"type":"Fuse"},
{"type":"Replace","pattern":{"String":"ab"},"content":" "}]})");
  refused(
      R"({"type":"Sequence","decoders":[{"type":"Fuse"},
{"type":"Strip","content":" ","start":0,"stop":1}]})");
}

} // namespace
} // namespace mlxlm

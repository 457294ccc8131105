#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "checkpoint/testing.h"
#include "core/files.h"
#include "text/testing.h"

namespace mlxlm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using text::SmallVocabulary;

TokenizerPtr build(const GgufTokenizer& gguf) {
  return tokenizer_from_gguf(gguf, "model.gguf");
}

std::string error_of(const GgufTokenizer& gguf) {
  try {
    build(gguf);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::text);
    return error.what();
  }
  return {};
}

TEST(GgufTokenizer, MergesAndSpecialTokens) {
  SmallVocabulary small;
  auto t = build(small.gguf);
  EXPECT_THAT(t->encode("hello"), ElementsAre(259));
  EXPECT_THAT(t->encode("<|start|>hell<think>"), ElementsAre(260, 258, 262));
  EXPECT_EQ(t->vocab_size(), 263);
  EXPECT_EQ(t->id_of("<|end|>"), 261);
  EXPECT_EQ(t->id_of("nothing"), -1);
  EXPECT_TRUE(t->is_special(261));
  EXPECT_FALSE(t->is_special(262));
  EXPECT_EQ(t->token(257), "ll");
  EXPECT_EQ(t->token(263), std::nullopt);
  EXPECT_EQ(t->token(-1), std::nullopt);
  EXPECT_EQ(t->special_token("eos_token"), "<|end|>");
  EXPECT_THAT(t->info().eos_ids, ElementsAre(261));
}

TEST(GgufTokenizer, SpecialTokensAsText) {
  SmallVocabulary small;
  auto t = build(small.gguf);
  EncodeOptions literal;
  literal.parse_special = false;
  auto ids = t->encode("<|start|><think>", literal);
  EXPECT_EQ(ids.size(), 10u); // nine characters, and the added word
  EXPECT_EQ(ids.back(), 262);
  EXPECT_EQ(t->decode(ids), "<|start|><think>");
}

TEST(GgufTokenizer, BosAndEos) {
  SmallVocabulary small;
  small.gguf.add_bos_token = true;
  small.gguf.add_eos_token = true;
  auto t = build(small.gguf);
  EXPECT_THAT(t->encode("hello"), ElementsAre(260, 259, 261));
  EncodeOptions bare;
  bare.add_special = false;
  EXPECT_THAT(t->encode("hello", bare), ElementsAre(259));
  EXPECT_EQ(t->decode(t->encode("hello"), true), "hello");
}

TEST(GgufTokenizer, EveryByteComesBack) {
  SmallVocabulary small;
  auto t = build(small.gguf);
  for (std::string text :
       {"", "a  b\n\t c", "日本語 é 😀", "\x01\x7f", "it's 1234 'LL"}) {
    EXPECT_EQ(t->decode(t->encode(text)), text);
  }
}

TEST(GgufTokenizer, RefusesWhatDoesNotFit) {
  SmallVocabulary small;
  auto gguf = small.gguf;
  gguf.pre = "smolm";
  EXPECT_THAT(error_of(gguf), HasSubstr("smollm"));
  gguf = small.gguf;
  gguf.model = "t5";
  EXPECT_THAT(error_of(gguf), HasSubstr("expected gpt2 or llama"));
  gguf = small.gguf;
  gguf.token_type.pop_back();
  EXPECT_THAT(error_of(gguf), HasSubstr("token_type"));
  gguf = small.gguf;
  gguf.ids["eos"] = 263;
  EXPECT_THAT(error_of(gguf), HasSubstr("eos_token_id"));
  gguf = small.gguf;
  gguf.merges.push_back("nospace");
  EXPECT_THAT(error_of(gguf), HasSubstr("merge 4"));
  gguf = small.gguf;
  gguf.tokens[7] = "\xff";
  EXPECT_THAT(error_of(gguf), HasSubstr("token 7"));
  gguf.tokens.clear();
  gguf.token_type.clear();
  gguf.ids.clear();
  EXPECT_THAT(error_of(gguf), HasSubstr("found none"));
}

TEST(GgufTokenizer, EveryPreNameCompiles) {
  SmallVocabulary small;
  small.gguf.pre = "?";
  auto error = error_of(small.gguf);
  auto list = error.substr(error.find("one of ") + 7);
  list = list.substr(0, list.find(", found"));
  int count = 0;
  for (std::size_t at = 0; at < list.size(); ++count) {
    auto end = std::min(list.find(", ", at), list.size());
    small.gguf.pre = list.substr(at, end - at);
    auto t = build(small.gguf);
    EncodeOptions bare;
    bare.add_special = false;
    std::string text = "It's 12345 tests,\n\n  日本語 ok!";
    EXPECT_EQ(t->decode(t->encode(text, bare)), text) << small.gguf.pre;
    at = end + 2;
  }
  EXPECT_GT(count, 50);
}

// SentencePiece: scores decide, unknown characters become bytes.
TEST(GgufTokenizer, SentencePiece) {
  GgufTokenizer gguf;
  gguf.model = "llama";
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  for (int b = 0; b < 256; ++b) {
    tokens.push_back(fmt::format("<0x{:02X}>", b));
  }
  for (const char* t : {"▁", "a", "b", "ab", "▁a", "▁ab"}) {
    tokens.emplace_back(t);
  }
  gguf.tokens.assign(tokens.begin(), tokens.end());
  gguf.token_type.assign(tokens.size(), 1);
  std::fill_n(gguf.token_type.begin() + 3, 256, 6);
  gguf.token_type[0] = 2;
  gguf.token_type[1] = gguf.token_type[2] = 3;
  gguf.scores.assign(tokens.size(), 0);
  // ids: 259 ▁, 260 a, 261 b, 262 ab, 263 ▁a, 264 ▁ab
  for (int i = 259; i < 265; ++i) {
    gguf.scores[i] = static_cast<float>(-i);
  }
  auto t = build(gguf);
  EXPECT_THAT(t->encode("ab"), ElementsAre(1, 264));
  EXPECT_THAT(t->encode("b é"), ElementsAre(1, 259, 261, 259, 198, 172));
  for (std::string text : {"ab ab", " a", "é", ""}) {
    EXPECT_EQ(t->decode(t->encode(text), true), text);
  }
  EXPECT_TRUE(t->info().bos_before_chat);
  gguf.add_space_prefix = false;
  EXPECT_THAT(build(gguf)->encode("ab"), ElementsAre(1, 262));
}

TEST(Tokenizer, RefusesBadText) {
  SmallVocabulary small;
  auto t = build(small.gguf);
  EXPECT_THROW(t->encode("\xff"), Error);
  EncodeOptions shorter;
  shorter.max_bytes = 3;
  EXPECT_THROW(t->encode("four", shorter), Error);
  EXPECT_THROW(t->decode(std::vector<int>{-1}), Error);
  EXPECT_EQ(t->decode(std::vector<int>{259, 1 << 30}), "hello");
}

TEST(Tokenizer, ManyThreads) {
  SmallVocabulary small;
  auto t = build(small.gguf);
  auto text = std::string("hello 日本語 hell <|end|>");
  auto wanted = t->encode(text);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      EncodeOptions options;
      options.parse_special = i % 2;
      for (int k = 0; k < 50; ++k) {
        auto ids = t->encode(text, options);
        wrong += i % 2 ? ids != wanted : t->decode(ids) != text;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

TEST(Tokenizer, TruncatedJsonIsRefused) {
  std::string json =
      R"({"version":"1.0","added_tokens":[{"id":2,"content":"<s>","special":true,
"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}],
"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,
"trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":null,
"model":{"type":"BPE","vocab":{"a":0,"b":1,"<s>":2,"ab":3},"merges":["a b"]}})";
  EXPECT_THAT(Tokenizer::from_json(json)->encode("ab<s>"), ElementsAre(3, 2));
  for (std::size_t size = 0; size < json.size(); size += 3) {
    EXPECT_THROW(Tokenizer::from_json(json.substr(0, size)), Error) << size;
  }
}

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    write(
        "tokenizer.json",
        R"({"added_tokens":[],"model":{"type":"BPE","vocab":{"a":0,"<s>":1,
"</s>":2},"merges":[]}})");
  }
  void write(const char* name, std::string_view content) {
    write_file(join_path(path_, name), content);
  }

  testing::TempFolder folder_;
  const std::string path_ = folder_.path();
};

TEST_F(Folder, SpecialTokensOfTheConfig) {
  write(
      "tokenizer_config.json",
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":null,
"chat_template":[{"name":"default","template":"D"},
{"name":"tool_use","template":"T"}],
"added_tokens_decoder":{"7":{"content":"<x>","special":false}}})");
  auto t = Tokenizer::from_directory(path_);
  EXPECT_THAT(t->encode("<s>a<x></s>"), ElementsAre(1, 0, 3, 2));
  EXPECT_THAT(t->info().eos_ids, ElementsAre(2));
  EXPECT_EQ(t->info().chat_templates.at("tool_use"), "T");
  EXPECT_EQ(t->special_token("pad_token"), "");
  EXPECT_TRUE(t->is_special(1));
  EXPECT_FALSE(t->is_special(3));
}

TEST_F(Folder, TemplateFileWins) {
  write("tokenizer_config.json", R"({"chat_template":"C"})");
  write("chat_template.jinja", "J");
  auto t = Tokenizer::from_directory(path_);
  EXPECT_EQ(t->info().chat_templates.at("default"), "J");
}

TEST_F(Folder, BadConfigsAreRefused) {
  write("tokenizer_config.json", R"({"eos_token":3})");
  EXPECT_THROW(Tokenizer::from_directory(path_), Error);
  write("tokenizer_config.json", R"({"chat_template":3})");
  EXPECT_THROW(Tokenizer::from_directory(path_), Error);
  write("tokenizer_config.json", "[]");
  EXPECT_THROW(Tokenizer::from_directory(path_), Error);
  EXPECT_THROW(Tokenizer::from_directory(path_ + "/none"), Error);
}

} // namespace
} // namespace mlxlm

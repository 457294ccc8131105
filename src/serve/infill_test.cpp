// Prompts with a gap, over a vocabulary of bytes and a few marks.
#include "serve/infill.h"

#include <gtest/gtest.h>

#include <map>

#include "serve/errors.h"

namespace mlxlm::serve {
namespace {

// Bytes are tokens, marks come after them.
class MarkedCodec final : public TextCodec {
 public:
  std::map<std::string, int, std::less<>> tokens;
  bool begins = false; // with token 1

  std::vector<int> encode(std::string_view text, bool special) const override {
    std::vector<int> out;
    if (special && begins) out.push_back(1);
    for (unsigned char c : text)
      out.push_back(c);
    return out;
  }
  std::string decode(std::span<const int>, bool) const override {
    return {};
  }
  int token_id(std::string_view token) const override {
    auto found = tokens.find(token);
    return found == tokens.end() ? -1 : found->second;
  }
  int vocab_size() const override {
    return 300;
  }
  const std::set<int>& eos_tokens() const override {
    return none_;
  }
  bool has_chat_template() const override {
    return false;
  }
  std::string render(const TemplateInput&) const override {
    return {};
  }
  std::vector<int> apply_chat_template(const TemplateInput&) const override {
    return {};
  }

 private:
  std::set<int> none_;
};

// Marks as "{", "|", "}", the rest as text.
std::string shown(const InfillPrompt& prompt) {
  std::string out;
  for (int id : prompt.ids)
    out += id < 256 ? static_cast<char>(id) : "{|}RF"[id - 256];
  return out;
}

MarkedCodec qwen() {
  MarkedCodec codec;
  codec.tokens = {
      {"<|fim_prefix|>", 256},
      {"<|fim_suffix|>", 257},
      {"<|fim_middle|>", 258},
      {"<|repo_name|>", 259},
      {"<|file_sep|>", 260}};
  return codec;
}

TEST(InfillPrompts, PrefixSuffixMiddle) {
  auto codec = qwen();
  InfillText text{.before = "ab", .after = "yz", .begun = "c"};
  auto prompt = infill_prompt(text, codec, {}, 100, "model");
  EXPECT_EQ(shown(prompt), "{abc|yz}");
  EXPECT_FALSE(prompt.truncated);
  codec.begins = true;
  EXPECT_EQ(shown(infill_prompt(text, codec, {}, 100, "model")), "\1{abc|yz}");
}

TEST(InfillPrompts, OtherFilesComeFirst) {
  auto codec = qwen();
  InfillText text{.before = "ab", .after = "yz", .files = {{"n", "X"}}};
  EXPECT_EQ(
      shown(infill_prompt(text, codec, {}, 100, "model")),
      "Rmyproject\nFn\nXFfilename\n{ab|yz}");
  codec.tokens.erase("<|repo_name|>");
  codec.tokens.erase("<|file_sep|>");
  EXPECT_EQ(
      shown(infill_prompt(text, codec, {}, 100, "model")),
      "\n\n--- snippet ---\n\nX{ab|yz}");
}

TEST(InfillPrompts, WhatIsNextToTheGapStays) {
  auto codec = qwen();
  InfillText text{.before = "abcdefgh", .after = "stuvwxyz"};
  auto prompt = infill_prompt(text, codec, {}, 11, "model");
  EXPECT_EQ(shown(prompt), "{cdefgh|st}");
  EXPECT_TRUE(prompt.truncated);
  text.before = "ab";
  EXPECT_EQ(shown(infill_prompt(text, codec, {}, 11, "model")), "{ab|stuvwx}");
  text.files = {{"n", "X"}};
  EXPECT_EQ(
      shown(infill_prompt(text, codec, {}, 15, "model")), "e\n{ab|stuvwxyz}");
  EXPECT_EQ(shown(infill_prompt(text, codec, {}, 0, "model")), "{|}");
}

TEST(InfillPrompts, MarksOfTheModelsFile) {
  MarkedCodec codec;
  InfillText text{.before = "a", .after = "z"};
  NamedTokens named;
  EXPECT_THROW(infill_prompt(text, codec, named, 100, "model"), ApiError);
  named = {{"fim_pre", 256}, {"fim_suf", 257}};
  EXPECT_THROW(infill_prompt(text, codec, named, 100, "model"), ApiError);
  named["fim_mid"] = 258;
  EXPECT_EQ(shown(infill_prompt(text, codec, named, 100, "model")), "{a|z}");
}

} // namespace
} // namespace mlxlm::serve

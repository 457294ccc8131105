// For tests: a grammar that forces a call, what it takes, and what the format's
// own parser reads in what was taken.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "text/grammar.h"
#include "text/output_parser.h"
#include "text/testing.h"
#include "text/tools/grammar.h"

namespace mlxlm {

// The small vocabulary and some tokens behind it, special ones.
inline TokenizerPtr tokenizer_with(const std::vector<std::string>& marks) {
  text::SmallVocabulary small;
  auto& gguf = small.gguf;
  for (const auto& mark : marks) {
    gguf.tokens.emplace_back(mark);
    gguf.token_type.push_back(3);
  }
  return tokenizer_from_gguf(gguf, "small");
}

class ForcedCall {
 public:
  explicit ForcedCall(
      std::string_view format,
      Json tools,
      const std::vector<std::string>& marks = {})
      : format_(find_tool_format(format)),
        tools_(std::move(tools)),
        tokenizer_(tokenizer_with(marks)),
        vocabulary_(std::make_shared<GrammarVocabulary>(
            *tokenizer_,
            320,
            std::set<int>{end_of_answer})),
        grammar_(
            vocabulary_,
            tool_call_grammar(*format_, tools_, *tokenizer_)) {}

  bool takes(std::string_view text) const {
    auto ids = tokenizer_->encode(text, {.add_special = false});
    auto copy = grammar_;
    return copy.accept(ids) == ids.size() && copy.may_end();
  }

  // Drawn at random from what may come next; ends where it may.
  std::string draw(unsigned seed, int most = 3000) const {
    std::mt19937 random(seed);
    auto grammar = grammar_;
    std::vector<int> ids;
    while (most-- > 0) {
      auto mask = grammar.mask();
      std::vector<int> next;
      for (std::size_t id = 0; id < mask.size() * 32; ++id)
        if (mask[id / 32] >> (id % 32) & 1) next.push_back(int(id));
      EXPECT_FALSE(next.empty()) << tokenizer_->decode(ids);
      if (next.empty() ||
          (grammar.may_end() &&
           std::find(next.begin(), next.end(), end_of_answer) != next.end()))
        break;
      // Where it may not end, its text is offered, as that of another token.
      std::erase(next, end_of_answer);
      // Of the 256 bytes few mean something: those come more often.
      std::erase_if(next, [&](int id) {
        return next.size() > 40 && id < 256 && id > 93;
      });
      ids.push_back(next[random() % next.size()]);
      EXPECT_TRUE(grammar.accept(ids.back()));
    }
    EXPECT_GT(most, 0) << tokenizer_->decode(ids);
    return tokenizer_->decode(ids);
  }

  // By the incremental parser, a byte at a time.
  Output read(std::string_view text) const {
    OutputParser parser({nullptr, format_}, {.tools = tools_});
    Output out;
    for (char c : text)
      for (const auto& item : parser.feed(std::string(1, c)))
        add(out, item);
    for (const auto& item : parser.finish())
      add(out, item);
    return out;
  }

 private:
  static constexpr int end_of_answer = 261; // "<|end|>" of the small vocabulary

  const ToolFormat* format_;
  Json tools_;
  TokenizerPtr tokenizer_;
  GrammarVocabularyPtr vocabulary_;
  Grammar grammar_;
};

} // namespace mlxlm

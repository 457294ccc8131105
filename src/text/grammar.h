// What a text must be, and which tokens may come next in it (llguidance in the
// Rust library).
//
//   GrammarVocabulary vocabulary(tokenizer, logits_width, stop_ids);
//   Grammar grammar(vocabulary, {GrammarKind::regex, "[0-9]+"});
//   draw a token whose bit is set in grammar.mask(), then grammar.accept(it)
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

struct mlxlm_matcher;
struct mlxlm_vocabulary;

namespace mlxlm {

enum class GrammarKind {
  json_schema, // JSON text of a schema
  regex, // the whole text
  lark, // llguidance's dialect of Lark
  choice, // a JSON list of strings: one of them is the whole text
};

struct GrammarSource {
  GrammarKind kind = GrammarKind::json_schema;
  std::string text;

  auto operator<=>(const GrammarSource&) const = default;
};

// A JSON schema as the compiler takes it (json_schema.h), and with our way of
// white space, unless it has an "x-guidance" of its own: between tokens at most
// a blank, or a line break and its indentation, so that nothing but white space
// cannot go on for ever.
Json schema_with_options(Json schema);

// A schema may come from anybody.
struct GrammarLimits {
  std::size_t source_bytes = std::size_t{1} << 20;
  std::size_t memory_bytes = std::size_t{256} << 20; // while compiling
  std::uint64_t steps = 1'000'000; // of building the lexer, about 20 ms
};

// The tokens as grammars see them. Made once for a model; immutable, may be
// used from several threads.
class GrammarVocabulary {
 public:
  // `size`: entries of a row of logits. `stop`: ids that end an answer; at
  // least one. Throws Error(text).
  GrammarVocabulary(
      const Tokenizer& tokenizer,
      int size,
      const std::set<int>& stop);

  const mlxlm_vocabulary* handle() const {
    return handle_.get();
  }
  // 32-bit words of a mask.
  std::size_t words() const {
    return words_;
  }

 private:
  struct Free {
    void operator()(mlxlm_vocabulary* handle) const;
  };
  std::unique_ptr<mlxlm_vocabulary, Free> handle_;
  std::size_t words_;
};
using GrammarVocabularyPtr = std::shared_ptr<const GrammarVocabulary>;

// A grammar and a place in a text. A copy goes on by itself. One thread at a
// time.
class Grammar {
 public:
  // Throws Error(request) in one line that says what cannot be compiled and
  // where, or that no token can begin the text.
  Grammar(
      GrammarVocabularyPtr vocabulary,
      const GrammarSource& source,
      const GrammarLimits& limits = {});
  Grammar(const Grammar& other);
  Grammar& operator=(const Grammar& other);
  Grammar(Grammar&&) noexcept = default;
  Grammar& operator=(Grammar&&) noexcept = default;

  // Bits of the tokens that may come next, lowest first. At the end of the text
  // only those that end it. Valid until the next call. Throws Error(text) when
  // a limit is met.
  std::span<const std::uint32_t> mask();
  // Goes behind a token; false when it does not fit (nothing has changed then).
  bool accept(int token);
  // How many of these fit, one after another; all that fit are accepted.
  std::size_t accept(std::span<const int> tokens);
  // Takes back tokens that were accepted.
  void rollback(std::size_t tokens);
  // What can only come next; empty where there is a choice.
  std::vector<int> forced();
  // The text may end here; it has ended.
  bool may_end();
  bool ended();

 private:
  int state();

  struct Free {
    void operator()(mlxlm_matcher* handle) const;
  };
  GrammarVocabularyPtr vocabulary_;
  std::unique_ptr<mlxlm_matcher, Free> handle_;
  std::vector<std::uint32_t> mask_;
};

} // namespace mlxlm

// What an answer must be, token by token: a grammar, perhaps behind a reasoning
// block, and a budget of that block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/detokenizer.h"
#include "text/grammar.h"

namespace mlxlm {

struct ConstraintOptions {
  std::optional<Grammar> grammar = {}; // of the answer
  // It says itself where reasoning is, between `open` and `close`.
  bool whole = false;
  // Texts around reasoning, which no other grammar touches; empty: there is
  // none. Behind `close` may come a header up to and with `header_end`.
  std::string open = {}, close = {}, header_end = {};
  // A text in the reasoning that is the beginning of the grammar's answer.
  std::string answer_open = {};
  // The token that is `open`, which may come instead of the answer's first.
  int open_token = -1;
  bool inside = false; // the prompt ends inside a reasoning block
  // Most tokens of reasoning; then `closing` follows, which contains `close`.
  std::optional<int> budget = {};
  std::vector<int> closing = {};
  // Bits of all tokens but those that end an answer: what reasoning may be of
  // where a grammar waits behind it.
  std::shared_ptr<const std::vector<std::uint32_t>> unending = {};
  TokenizerPtr tokenizer = {};
};

// Belongs to one sequence; a copy goes on by itself.
class Constraint {
 public:
  explicit Constraint(ConstraintOptions options);
  Constraint(const Constraint& other);
  Constraint(Constraint&&) noexcept = default;
  Constraint& operator=(Constraint&&) noexcept = default;

  // Bits of the tokens that may be drawn next, lowest first; empty: all of
  // them. Valid until the next call. Throws Error when a limit is met.
  std::span<const std::uint32_t> mask();
  // What can only be drawn next, as far as that is known; mask() of each is
  // itself alone.
  std::vector<int> forced();
  // Whether there may ever be such tokens.
  bool forces() const {
    return options_.grammar || options_.budget;
  }
  // The token that was drawn.
  void accept(int token);

 private:
  enum class Part { first, reasoning, answer };
  void listen();
  bool hear(int token);
  void look_for_open(int token);
  void reason(int token);
  bool closed();
  bool answers();
  bool closing() const;
  std::span<const std::uint32_t> only(int token);

  ConstraintOptions options_;
  Part part_;
  std::vector<std::uint32_t> mask_;
  std::optional<Detokenizer> detokenizer_; // while marks are looked for
  std::string tail_; // what may be the beginning of one
  bool whole_ = true; // no character is half written
  int reasoned_ = 0;
  std::size_t forced_ = 0; // tokens of `closing` that were drawn
};

} // namespace mlxlm

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
  // Texts around reasoning, which no grammar touches; empty: there is none.
  std::string open = {}, close = {};
  // The token that is `open`, which may come instead of the answer's first.
  int open_token = -1;
  bool inside = false; // the prompt ends inside a reasoning block
  // Most tokens of reasoning; then `closing` follows, which contains `close`.
  std::optional<int> budget = {};
  std::vector<int> closing = {};
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
  void reason(int token);
  bool closing() const;
  std::span<const std::uint32_t> only(int token);

  ConstraintOptions options_;
  Part part_;
  std::vector<std::uint32_t> mask_;
  std::optional<Detokenizer> detokenizer_; // while reasoning
  std::string tail_; // the end of the reasoning, for `close`
  bool whole_ = true; // no character is half written
  int reasoned_ = 0;
  std::size_t forced_ = 0; // tokens of `closing` that were drawn
};

} // namespace mlxlm

// Log-likelihood of known tokens, for perplexity and for prompts that are
// given back with it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cache/memory.h"
#include "mlxlm/model.h"
#include "nn/model.h"

namespace mlxlm {

// A known text, read some tokens at a time, on the engine's thread.
class ScoredText {
 public:
  // `ids` outlive it; at least two.
  ScoredText(std::span<const int> ids, int context);

  struct Rows {
    mx::array logits; // [n, vocab] float32, evaluated
    std::span<const int> targets; // what followed
  };
  Rows next(const Model& model, Memory& memory);
  int next_count() const; // tokens that it reads
  int done() const { // tokens read; the last one is not
    return at_;
  }
  int total() const {
    return total_;
  }
  // Of each target a list: itself, then the `top` likeliest.
  static void likelihoods(
      const Rows& rows,
      int top,
      std::vector<std::vector<TokenLogprob>>& out);

 private:
  std::span<const int> ids_;
  int context_, total_, at_ = 0;
  std::unique_ptr<SequenceMemory> sequence_;
};

// On the engine's thread. See ModelContainer::score.
Score score_tokens(
    const Model& model,
    Memory& memory,
    std::span<const int> ids,
    int context,
    const std::function<void(int done, int total)>& progress);

} // namespace mlxlm

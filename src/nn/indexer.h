// DeepSeek's sparse attention: a small attention of its own scores all tokens
// for a query; only the best are attended to.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "nn/block.h"
#include "nn/rope.h"

namespace mlxlm {

// The tokens each query of a segment attends to, [count, top_k]; nothing where
// the sequence is short enough to see all. A layer without an indexer takes
// the choice of the last one that has one, through the same object.
struct Choice {
  std::vector<std::optional<mx::array>> tokens; // one a segment
};
using ChoicePtr = std::shared_ptr<Choice>;

struct IndexerOptions {
  int hidden = 0, q_rank = 0, heads = 0, head_dim = 0;
  int top_k = 0;
  Rope rope = {};
  float eps = 1e-6f;
};

class Indexer {
 public:
  Indexer(const Scope& s, const IndexerOptions& options);
  // What is remembered of each token, [1, N, head_dim].
  mx::array keys(const mx::array& x, const Step& step) const;
  // `q`: the normed low-rank queries [1, N, q_rank]; `cache`: has the keys.
  Choice choose(
      const mx::array& x,
      const mx::array& q,
      const Step& step,
      LayerCache& cache) const;
  CacheSpec cache() const;

 private:
  IndexerOptions o_;
  Linear queries_, keys_, weights_;
  Norm key_norm_;
};

// Latent attention of q [n, H, W] at positions first, first + 1 ... to rows
// [T, W] whose first `rank` numbers are the values: causal, and only to
// `tokens` [n, k] if given. Result [n, H, rank].
mx::array attend_chosen(
    const mx::array& q,
    const mx::array& rows,
    const std::optional<mx::array>& tokens,
    int first,
    int rank,
    float scale);

} // namespace mlxlm

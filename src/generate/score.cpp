#include "generate/score.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "generate/sampling/distribution.h"
#include "runtime/threads.h"

namespace mlxlm {
namespace {

// Rows of logits that are held at once.
constexpr int rows_at_once = 128;

// Of `targets` under logits [n, vocab], joined to `out`.
void score_rows(
    mx::array logits,
    std::span<const int> targets,
    std::vector<TokenScore>& out) {
  logits = mx::contiguous(mx::astype(logits, mx::float32));
  mx::eval(logits);
  auto vocab = static_cast<std::size_t>(logits.shape(1));
  const auto* x = logits.data<float>();
  auto first = out.size();
  out.resize(first + targets.size());
  parallel_for(static_cast<int>(targets.size()), [&](int row) {
    Distribution d;
    std::span<const float> values(x + row * vocab, vocab);
    d.reset(values);
    double normalizer = d.log_normalizer();
    auto logprob = [&](float logit) {
      return static_cast<float>(logit - normalizer);
    };
    int best = argmax(values);
    out[first + row] = {
        logprob(values[targets[row]]),
        best,
        logprob(values[std::max(best, 0)])};
  });
}

} // namespace

double Score::perplexity() const {
  return std::exp(mean_nll);
}

Score score_tokens(
    const Model& model,
    Memory& memory,
    std::span<const int> ids,
    int context,
    const std::function<void(int done, int total)>& progress) {
  auto start = std::chrono::steady_clock::now();
  Score score;
  auto total = static_cast<int>(ids.size()) - 1;
  std::unique_ptr<SequenceMemory> sequence;
  for (int at = 0; at < total;) {
    // A text longer than the context is read in windows that begin anew.
    int offset = at % context;
    if (offset == 0) sequence = memory.sequence();
    int count = std::min({rows_at_once, total - at, context - offset});
    std::vector<int> rows(count);
    std::iota(rows.begin(), rows.end(), 0);
    sequence->begin(count);
    Step step({{sequence.get(), 0, count, offset}});
    auto chunk = ids.subspan(at, count);
    mx::array tokens(chunk.begin(), mx::Shape{1, count}, mx::int32);
    auto logits = model({.tokens = tokens}, step, memory, rows);
    score_rows(logits, ids.subspan(at + 1, count), score.each);
    sequence->commit(count);
    at += count;
    if (progress) progress(at, total);
  }
  score.tokens = total;
  double sum = std::accumulate(
      score.each.begin(),
      score.each.end(),
      0.0,
      [](double sum, const TokenScore& s) { return sum - s.logprob; });
  score.mean_nll = sum / total;
  score.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return score;
}

} // namespace mlxlm

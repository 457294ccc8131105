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

// Sum of the negative log-likelihoods of `targets` under logits [n, vocab].
double sum_nll(mx::array logits, std::span<const int> targets) {
  logits = mx::contiguous(mx::astype(logits, mx::float32));
  mx::eval(logits);
  auto vocab = static_cast<std::size_t>(logits.shape(1));
  const auto* x = logits.data<float>();
  std::vector<double> nll(targets.size());
  parallel_for(static_cast<int>(targets.size()), [&](int row) {
    Distribution d;
    const auto* values = x + row * vocab;
    d.reset({values, vocab});
    nll[row] = d.log_normalizer() - values[targets[row]];
  });
  return std::accumulate(nll.begin(), nll.end(), 0.0);
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
  double sum = 0;
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
    sum += sum_nll(logits, ids.subspan(at + 1, count));
    sequence->commit(count);
    at += count;
    if (progress) progress(at, total);
  }
  score.tokens = total;
  score.mean_nll = sum / total;
  score.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return score;
}

} // namespace mlxlm

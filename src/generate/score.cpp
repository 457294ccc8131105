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

// What `use` makes of each of `targets` under the distribution of its row of
// logits [n, vocab].
template <typename Use>
void each_row(
    const mx::array& logits,
    std::span<const int> targets,
    const Use& use) {
  auto vocab = static_cast<std::size_t>(logits.shape(1));
  const auto* x = logits.data<float>();
  parallel_for(static_cast<int>(targets.size()), [&](int row) {
    Distribution d;
    std::span<const float> values(x + row * vocab, vocab);
    d.reset(values);
    double normalizer = d.log_normalizer();
    use(row, values, [=](int token) {
      return static_cast<float>(values[token] - normalizer);
    });
  });
}

// The likeliest, best first.
std::vector<int> likeliest(std::span<const float> values, int count) {
  if (count == 0) return {};
  std::vector<int> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  auto middle = ids.begin() + std::min<std::ptrdiff_t>(count, ids.size());
  std::partial_sort(ids.begin(), middle, ids.end(), [&](int a, int b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
  });
  ids.erase(middle, ids.end());
  return ids;
}

} // namespace

double Score::perplexity() const {
  return std::exp(mean_nll);
}

ScoredText::ScoredText(std::span<const int> ids, int context)
    : ids_(ids), context_(context), total_(static_cast<int>(ids.size()) - 1) {}

int ScoredText::next_count() const {
  return std::min({rows_at_once, total_ - at_, context_ - at_ % context_});
}

ScoredText::Rows ScoredText::next(const Model& model, Memory& memory) {
  // A text longer than the context is read in windows that begin anew.
  int offset = at_ % context_;
  if (offset == 0) sequence_ = memory.sequence();
  int count = next_count();
  std::vector<int> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  sequence_->begin(count);
  Step step({{sequence_.get(), 0, count, offset, 0, true}});
  auto chunk = ids_.subspan(at_, count);
  mx::array tokens(chunk.begin(), mx::Shape{1, count}, mx::int32);
  auto logits = model({.tokens = tokens}, step, memory, rows);
  logits = mx::contiguous(mx::astype(logits, mx::float32));
  mx::eval(logits);
  sequence_->commit(count);
  Rows out{std::move(logits), ids_.subspan(at_ + 1, count)};
  at_ += count;
  return out;
}

void ScoredText::likelihoods(
    const Rows& rows,
    int top,
    std::vector<std::vector<TokenLogprob>>& out) {
  auto first = out.size();
  out.resize(first + rows.targets.size());
  each_row(
      rows.logits,
      rows.targets,
      [&](int row, std::span<const float> values, auto logprob) {
        auto& list = out[first + row];
        int target = rows.targets[row];
        list.push_back({target, logprob(target)});
        for (int id : likeliest(values, top))
          list.push_back({id, logprob(id)});
      });
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
  ScoredText text(ids, context);
  while (text.done() < total) {
    auto rows = text.next(model, memory);
    auto first = score.each.size();
    score.each.resize(first + rows.targets.size());
    each_row(
        rows.logits,
        rows.targets,
        [&](int row, std::span<const float> values, auto logprob) {
          int best = argmax(values);
          score.each[first + row] = {
              logprob(rows.targets[row]), best, logprob(std::max(best, 0))};
        });
    if (progress) progress(text.done(), total);
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

// Repetition (Keskar et al., CTRL), presence and frequency penalties over the
// last tokens of prompt and answer. A context size of n means the n most
// recent.
#include <algorithm>
#include <vector>

#include "generate/sampling/stages.h"

namespace mlxlm {
namespace {

std::vector<int> recent(std::span<const int> history, int size) {
  auto count = std::min(history.size(), static_cast<std::size_t>(size));
  auto tail = history.last(count);
  std::vector<int> tokens(tail.begin(), tail.end());
  std::sort(tokens.begin(), tokens.end());
  return tokens;
}

std::vector<int> distinct(std::span<const int> history, int size) {
  auto tokens = recent(history, size);
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

} // namespace

void repetition_penalty(
    std::span<float> row,
    const SamplingParameters& p,
    const StageContext& context) {
  float penalty = *p.repetition_penalty;
  for (int token : distinct(context.history, p.repetition_context_size)) {
    float& logit = row[token];
    logit = logit < 0 ? logit * penalty : logit / penalty;
  }
}

void presence_penalty(
    std::span<float> row,
    const SamplingParameters& p,
    const StageContext& context) {
  for (int token : distinct(context.history, p.presence_context_size))
    row[token] -= *p.presence_penalty;
}

void frequency_penalty(
    std::span<float> row,
    const SamplingParameters& p,
    const StageContext& context) {
  for (int token : recent(context.history, p.frequency_context_size))
    row[token] -= *p.frequency_penalty;
}

} // namespace mlxlm

#include "generate/sampling_tokens.h"

#include <algorithm>
#include <array>

namespace mlxlm {
std::vector<int> SamplingTokens::breakers(
    const std::vector<std::string>& texts) const {
  std::lock_guard lock(mutex_);
  auto found = breakers_.find(texts);
  if (found != breakers_.end()) return found->second;
  std::vector<int> ids;
  for (int id = 0; id < codec_->vocab_size(); ++id) {
    auto word = codec_->decode(std::array<int, 1>{id});
    bool breaks =
        std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
          return word.find(text) != std::string::npos;
        });
    if (breaks) ids.push_back(id);
  }
  return breakers_[texts] = ids;
}

void SamplingTokens::fill(
    SamplingParameters& p,
    const std::set<int>& stop_tokens) const {
  if (p.min_tokens > 0 && p.end_tokens.empty())
    p.end_tokens.assign(stop_tokens.begin(), stop_tokens.end());
  if (p.dry_multiplier != 0 && p.dry_breaker_tokens.empty())
    p.dry_breaker_tokens = breakers(p.dry_sequence_breakers);
}

} // namespace mlxlm

#include "generate/sampling_tokens.h"

#include <algorithm>
#include <array>

namespace mlxlm {
namespace {

const std::array<std::string, 4> usual_breakers = {"\n", ":", "\"", "*"};
constexpr std::size_t texts_known = 256; // a bound, requests name them
constexpr std::size_t longest_tail = 20; // tokens, as in llama.cpp

// How much of `text` may be in `word`: all of it, or its begin at the word's
// end.
std::vector<std::size_t> parts_in(
    const std::string& word,
    const std::string& text) {
  if (word.find(text) != word.npos) return {text.size()};
  std::vector<std::size_t> parts;
  for (auto at = word.find(text[0]); at != word.npos;
       at = word.find(text[0], at + 1)) {
    auto length = word.size() - at;
    if (length < text.size() && word.compare(at, length, text, 0, length) == 0)
      parts.push_back(length);
  }
  return parts;
}

} // namespace

// One look at the vocabulary, as it takes a while.
void SamplingTokens::look_for(std::span<const std::string> texts) const {
  for (int id = 0; id < codec_->vocab_size(); ++id) {
    auto word = codec_->decode(std::array<int, 1>{id});
    for (const auto& text : texts)
      for (auto part : parts_in(word, text)) {
        std::vector<int> sequence = {id};
        auto tail = codec_->encode(text.substr(part), false);
        tail.resize(std::min(tail.size(), longest_tail));
        sequence.insert(sequence.end(), tail.begin(), tail.end());
        known_[text].push_back(std::move(sequence));
      }
  }
  for (const auto& text : texts)
    known_[text]; // also where no token has any of it
}

SamplingTokens::Sequences SamplingTokens::breakers(
    std::span<const std::string> texts) const {
  std::lock_guard lock(mutex_);
  if (known_.size() + texts.size() > texts_known) known_.clear();
  std::vector<std::string> missing;
  for (const auto& text : texts)
    if (!text.empty() && !known_.count(text)) missing.push_back(text);
  if (!missing.empty()) look_for(missing);
  std::set<std::vector<int>> all;
  for (const auto& text : texts)
    if (auto found = known_.find(text); found != known_.end())
      all.insert(found->second.begin(), found->second.end());
  return {all.begin(), all.end()};
}

void SamplingTokens::fill(
    SamplingParameters& p,
    const std::set<int>& stop_tokens) const {
  if (p.min_tokens > 0 && p.end_tokens.empty())
    p.end_tokens.assign(stop_tokens.begin(), stop_tokens.end());
  if (p.dry_multiplier <= 0 || !p.dry_breaker_tokens.empty()) return;
  p.dry_breaker_tokens = p.dry_sequence_breakers
      ? breakers(*p.dry_sequence_breakers)
      : breakers(usual_breakers);
}

} // namespace mlxlm

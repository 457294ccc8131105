// What sampling needs to know of a model's vocabulary: the tokens that break
// repetitions, and those that end answers.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "mlxlm/sampling.h"
#include "mlxlm/tokenizer.h"

namespace mlxlm {

// May be used from several threads.
class SamplingTokens {
 public:
  explicit SamplingTokens(TextCodecPtr codec) : codec_(std::move(codec)) {}

  // Fills in what is empty and asked for.
  void fill(SamplingParameters& parameters, const std::set<int>& stop_tokens)
      const;

 private:
  using Sequences = std::vector<std::vector<int>>;
  Sequences breakers(std::span<const std::string> texts) const;
  void look_for(std::span<const std::string> texts) const;

  TextCodecPtr codec_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Sequences> known_; // by text
};

} // namespace mlxlm

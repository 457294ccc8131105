// What sampling needs to know of a model's vocabulary: the tokens that break
// repetitions, and those that end answers.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "mlxlm/sampling.h"
#include "mlxlm/tokenizer.h"

namespace mlxlm {

class SamplingTokens {
 public:
  explicit SamplingTokens(TextCodecPtr codec) : codec_(std::move(codec)) {}

  // Fills in what is empty and asked for.
  void fill(SamplingParameters& parameters, const std::set<int>& stop_tokens)
      const;

 private:
  std::vector<int> breakers(const std::vector<std::string>& texts) const;

  TextCodecPtr codec_;
  mutable std::mutex mutex_;
  mutable std::map<std::vector<std::string>, std::vector<int>> breakers_;
};

} // namespace mlxlm

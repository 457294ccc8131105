// Guesses what followed the last time the text went as it goes now: no model is
// asked. (Prompt lookup decoding; llama.cpp: ngram-simple.)
#pragma once

#include "generate/drafting/drafter.h"

namespace mlxlm {

class PromptLookup final : public Drafter {
 public:
  std::unique_ptr<DraftState> open() override;
  void propose(std::span<DraftTask> tasks) override;
  double cost() const override {
    return 0;
  }
};

struct LookupSize { // of the runs of tokens that are looked for
  int least = 2, most = 6;
};
// What followed the longest run that ends `known` and was there before, the
// latest of equally long ones; on past the end of `known` as if it repeated
// itself. Empty when not even the shortest run was there.
std::vector<int> look_up(
    std::span<const int> known,
    int count,
    LookupSize size = {});

} // namespace mlxlm

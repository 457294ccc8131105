// How likely a prompt was, beside whatever else the model does.
#pragma once

#include <exception>
#include <functional>
#include <vector>

#include "generate/adapters.h"
#include "mlxlm/model.h"

namespace mlxlm {

// Of each token behind the first: itself, then the `top` likeliest there.
using PromptScoreLists = std::vector<std::vector<TokenLogprob>>;

struct PromptScoring {
  std::vector<int> ids; // at least two
  int top = 0;
  LoadedAdapterPtr adapter = nullptr; // or null
  std::function<bool()> cancelled; // asked on the engine's thread
  // Called there once, unless the engine ends before; what failed, or null.
  std::function<void(PromptScoreLists, std::exception_ptr)> done;
};
// Reads it in pieces between the passes of others. Throws Error(request).
void score_prompt(ModelContainer& model, PromptScoring scoring);

} // namespace mlxlm

#include "generate/drafting/prompt_lookup.h"

#include <algorithm>

namespace mlxlm {
namespace {

// How many tokens before `a` and before `b` are the same, at most `most`.
int common_run(std::span<const int> known, int a, int b, int most) {
  int length = 0;
  while (length < most && length < a &&
         known[a - 1 - length] == known[b - 1 - length])
    ++length;
  return length;
}

} // namespace

std::vector<int> look_up(
    std::span<const int> known,
    int count,
    LookupSize size) {
  auto end = static_cast<int>(known.size());
  int best = size.least - 1, from = -1;
  for (int at = end - 1; at > best && best < size.most; --at) {
    int run = common_run(known, at, end, size.most);
    if (run > best) {
      best = run;
      from = at;
    }
  }
  std::vector<int> guesses;
  if (from < 0) return guesses;
  for (int i = from; i < from + count; ++i)
    guesses.push_back(i < end ? known[i] : guesses[i - end]);
  return guesses;
}

std::unique_ptr<DraftState> PromptLookup::open() {
  return std::make_unique<DraftState>();
}

void PromptLookup::propose(std::span<DraftTask> tasks) {
  for (auto& task : tasks)
    task.draft.tokens = look_up(task.known, task.most);
}

} // namespace mlxlm

#include "generate/prefix_store.h"

#include <algorithm>

#include "core/check.h"

namespace mlxlm {
namespace {

int common_prefix(const std::vector<int>& a, const std::vector<int>& b) {
  auto ends = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int>(ends.first - a.begin());
}

// Shorter ones are read again sooner than they are found.
constexpr int worth = 16;
// Windows and recurrent states may have to go back further than asked: so many
// are tried.
constexpr int most_tries = 4;

} // namespace

std::optional<PrefixStore::Found> PrefixStore::find(
    const std::vector<int>& prompt) {
  using Place = std::list<Entry>::iterator;
  auto most = static_cast<int>(prompt.size()) - 1;
  std::vector<std::pair<int, Place>> shared;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    int length = std::min(common_prefix(it->tokens, prompt), most);
    if (length >= worth) shared.emplace_back(length, it);
  }
  std::stable_sort(shared.begin(), shared.end(), [](auto& a, auto& b) {
    return a.first > b.first;
  });
  std::optional<Found> best;
  auto from = entries_.end();
  int tries = 0;
  for (auto& [length, it] : shared) {
    if (tries++ == most_tries || (best && best->length >= length)) break;
    auto memory = it->memory->fork();
    int reached = memory->trim(length);
    if (reached < worth || (best && best->length >= reached)) continue;
    best = Found{std::move(memory), reached};
    from = it;
  }
  if (best) entries_.splice(entries_.begin(), entries_, from);
  return best;
}

void PrefixStore::insert(
    std::vector<int> tokens,
    std::unique_ptr<SequenceMemory> memory) {
  MLXLM_CHECK(
      memory && memory->length() == static_cast<int>(tokens.size()),
      "a sequence and its tokens");
  if (static_cast<int>(tokens.size()) < worth) return;
  entries_.remove_if([&](const Entry& e) { return e.tokens == tokens; });
  entries_.push_front({std::move(tokens), std::move(memory)});
  while (entries_.size() > most_)
    entries_.pop_back();
}

bool PrefixStore::evict() {
  if (entries_.empty()) return false;
  entries_.pop_back();
  return true;
}

} // namespace mlxlm

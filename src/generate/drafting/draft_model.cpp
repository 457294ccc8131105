#include "generate/drafting/draft_model.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "generate/common_prefix.h"
#include "generate/drafting/draft_round.h"

namespace mlxlm {
class DraftModel::State final : public DraftState {
 public:
  std::unique_ptr<SequenceMemory> memory;
  std::vector<int> read; // as far as `memory` goes
};

DraftModel::DraftModel(
    std::shared_ptr<const Model> model,
    std::shared_ptr<Memory> memory,
    const DraftModelOptions& options)
    : forward_(std::move(model), std::move(memory)), options_(options) {}

std::unique_ptr<DraftState> DraftModel::open() {
  auto state = std::make_unique<State>();
  state->memory = forward_.memory().sequence();
  return state;
}

// Tokens that this model has not are no reason to fail.
bool DraftModel::knows(std::span<const int> tokens) const {
  int vocab = forward_.model().vocab();
  return std::all_of(
      tokens.begin(), tokens.end(), [&](int t) { return t < vocab; });
}

// Reads `known` but for its last tokens, `leave` of them or fewer. False: it
// cannot.
bool DraftModel::catch_up(State& state, std::span<const int> known, int leave) {
  auto& memory = *state.memory;
  auto size = static_cast<int>(known.size());
  int agreed = std::min(common_prefix(state.read, known), size - 1);
  if (memory.length() > agreed) agreed = memory.trim(agreed);
  state.read.resize(agreed);
  if (!knows(known.subspan(agreed))) return false;
  while (size - memory.length() > leave) {
    int at = memory.length();
    int count = std::min(options_.step_tokens, size - at - std::min(leave, 1));
    auto chunk = known.subspan(at, count);
    memory.begin(count);
    try {
      forward_.start(
          {.segments =
               {{.sequence = &memory,
                 .first = 0,
                 .count = count,
                 .offset = at,
                 .goal = size}},
           .tokens = {.known = {chunk.begin(), chunk.end()}}});
    } catch (...) {
      memory.rollback();
      throw;
    }
    memory.commit(count);
    state.read.insert(state.read.end(), chunk.begin(), chunk.end());
  }
  return true;
}

void DraftModel::read(DraftState& state, std::span<const int> known) {
  try {
    catch_up(static_cast<State&>(state), known, 0);
  } catch (const Error& error) {
    // No room: it will guess nothing.
    if (error.kind() != ErrorKind::resource) throw;
  }
}

void DraftModel::propose(std::span<DraftTask> tasks) {
  std::vector<Guessing> all;
  std::vector<State*> states;
  for (auto& task : tasks) {
    auto& state = static_cast<State&>(*task.state);
    try {
      if (!catch_up(state, task.known, most_unread)) continue;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::resource) throw;
      continue;
    }
    auto unread = task.known.subspan(state.memory->length());
    all.push_back({&task, state.memory.get(), {unread.begin(), unread.end()}});
    states.push_back(&state);
  }
  guess(forward_, all, options_.vocab);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& drawn = all[i].drawn;
    if (drawn.empty()) continue;
    auto& read = states[i]->read;
    read.insert(read.end(), all[i].unread.begin(), all[i].unread.end());
    for (std::size_t k = 0; k + 1 < drawn.size(); ++k)
      read.push_back(std::max(drawn[k], 0));
  }
}

void DraftModel::rest() {
  forward_.forget();
  forward_.memory().release_unused();
}

} // namespace mlxlm

#include "generate/drafting/prediction_drafter.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "generate/common_prefix.h"
#include "generate/drafting/draft_round.h"
#include "nn/decoder.h"

namespace mlxlm {
namespace {

// Columns [begin, end) of the second axis.
mx::array part(const mx::array& x, int begin, int end) {
  return mx::slice(x, {0, begin, 0}, {1, end, x.shape(2)});
}

} // namespace

class PredictionDrafter::State final : public DraftState {
 public:
  std::unique_ptr<SequenceMemory> memory;
  // What the rows in `memory` and the hidden states come from, and the token
  // after them.
  std::vector<int> tokens;
  // Position of the first row. What a sequence began with may have been read by
  // another: the module then knows nothing of it.
  int base = 0;
  // Of positions [next(), next() + unread()), not read.
  std::optional<mx::array> hidden;

  int next() const {
    return base + memory->length();
  }
  int unread() const {
    return hidden ? hidden->shape(1) : 0;
  }

  // Forgets what `known` does not begin with.
  void follow(std::span<const int> known) {
    int agreed = common_prefix(tokens, known);
    // A row was read with the token after its position.
    int rows = std::clamp(agreed - 1 - base, 0, memory->length());
    if (rows < memory->length()) {
      memory->trim(rows);
      hidden.reset();
    }
    keep_hidden(agreed - next());
    tokens.assign(known.begin(), known.end());
  }
  // The first `count` of them.
  void keep_hidden(int count) {
    if (count < 1)
      hidden.reset();
    else if (count < unread())
      hidden = part(*hidden, 0, count);
  }
  void drop_hidden(int count) {
    hidden = count < unread() ? std::optional(part(*hidden, count, unread()))
                              : std::nullopt;
  }
  void add(int first, const mx::array& more) {
    int end = next() + unread(), count = more.shape(1);
    // Between what it has and this the module sees no gap.
    if (first > end) {
      hidden.reset();
      base += first - next();
      end = first;
    }
    if (first + count <= end) return;
    auto fresh = part(more, end - first, count);
    hidden = hidden ? mx::concatenate({*hidden, fresh}, 1) : fresh;
  }
  // The tokens after positions [next(), next() + count).
  std::span<const int> following(int count) const {
    return std::span(tokens).subspan(next() + 1, count);
  }
};

PredictionDrafter::PredictionDrafter(
    std::shared_ptr<const Model> module,
    std::shared_ptr<Memory> memory,
    const PredictionDrafterOptions& options)
    : forward_(std::move(module), std::move(memory)), options_(options) {}

std::unique_ptr<DraftState> PredictionDrafter::open() {
  auto state = std::make_unique<State>();
  state->memory = forward_.memory().sequence();
  return state;
}

// The next `count` positions, whose next tokens are known.
void PredictionDrafter::read_rows(State& state, int count) {
  auto& memory = *state.memory;
  while (count > 0) {
    int chunk = std::min(count, options_.step_tokens);
    auto tokens = state.following(chunk);
    PassPlan plan;
    plan.segments.push_back({&memory, 0, chunk, memory.length()});
    plan.tokens.known.assign(tokens.begin(), tokens.end());
    plan.hidden = part(*state.hidden, 0, chunk);
    memory.begin(chunk);
    try {
      forward_.start(std::move(plan));
    } catch (...) {
      memory.rollback();
      throw;
    }
    // While next() is still where they begin.
    state.drop_hidden(chunk);
    memory.commit(chunk);
    count -= chunk;
  }
}

void PredictionDrafter::watch(
    DraftState& opened,
    std::span<const int> known,
    const mx::array& hidden) {
  auto& state = static_cast<State&>(opened);
  state.follow(known);
  state.add(static_cast<int>(known.size()) - hidden.shape(1), hidden);
  // Of the last position the next token is not known.
  int ready = state.unread() - 1;
  if (ready < most_unread) return;
  try {
    read_rows(state, ready);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::resource) throw;
    state.hidden.reset(); // no room: a gap
  }
}

void PredictionDrafter::propose(std::span<DraftTask> tasks) {
  std::vector<Guessing> all;
  std::vector<State*> states;
  for (auto& task : tasks) {
    auto& state = static_cast<State&>(*task.state);
    state.follow(task.known);
    int unread = state.unread();
    // The last token has not been read by the model, all before it have.
    bool seen =
        state.next() + unread == static_cast<int>(task.known.size()) - 1;
    if (unread == 0 || !seen) continue;
    auto tokens = state.following(unread);
    all.push_back(
        {&task,
         state.memory.get(),
         {tokens.begin(), tokens.end()},
         *state.hidden});
    states.push_back(&state);
  }
  guess(forward_, all, forward_.model().vocab());
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto& state = *states[i];
    if (all[i].drawn.empty()) continue;
    // What came of its own hidden states is read again with the model's.
    int guessed = static_cast<int>(all[i].drawn.size()) - 1;
    state.hidden.reset();
    if (guessed > 0) state.memory->trim(state.memory->length() - guessed);
  }
}

void PredictionDrafter::rest() {
  forward_.memory().release_unused();
}

} // namespace mlxlm

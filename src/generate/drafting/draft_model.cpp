#include "generate/drafting/draft_model.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "generate/common_prefix.h"

namespace mlxlm {
namespace {

// Tokens that the first pass of a round reads; more are read before.
constexpr int most_unread = 4;

} // namespace

class DraftModel::State final : public DraftState {
 public:
  std::unique_ptr<SequenceMemory> memory;
  std::vector<int> read; // as far as `memory` goes
};

struct DraftModel::Guessing {
  DraftTask* task;
  State* state;
  SamplerPtr sampler;
  std::vector<int> draws; // of each pass, which of its draws is this one's
  int row = 0; // of the pass before, where its token is
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
  for (auto& task : tasks) {
    auto& state = static_cast<State&>(*task.state);
    try {
      if (!catch_up(state, task.known, most_unread)) continue;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::resource) throw;
      continue;
    }
    all.push_back({&task, &state, std::make_shared<Sampler>(*task.sampler)});
  }
  std::vector<Running> passes;
  std::vector<Guessing*> list;
  for (auto& g : all)
    list.push_back(&g);
  while (!list.empty()) {
    passes.push_back(start(list, passes.empty() ? nullptr : &passes.back()));
    list.erase(
        std::remove_if(
            list.begin(),
            list.end(),
            [](const Guessing* g) {
              return static_cast<int>(g->draws.size()) >= g->task->most;
            }),
        list.end());
  }
  for (auto& pass : passes)
    pass.finish();
  for (auto& g : all)
    take(g, passes);
}

// The next guess of each. Those without room leave the list.
Running DraftModel::start(std::vector<Guessing*>& list, const Running* before) {
  PassPlan plan;
  std::vector<Guessing*> joined;
  int first = 0;
  for (auto* g : list) {
    auto& [task, state, sampler, draws, row] = *g;
    int at = state->memory->length();
    auto unread = before ? std::span<const int>{} : task->known.subspan(at);
    int count = before ? 1 : static_cast<int>(unread.size());
    try {
      state->memory->begin(count);
    } catch (const Error&) {
      continue;
    }
    joined.push_back(g);
    plan.segments.push_back({state->memory.get(), first, count, at});
    if (before) plan.tokens.rows.push_back(row);
    auto& known = plan.tokens.known;
    known.insert(known.end(), unread.begin(), unread.end());
    plan.draws.push_back(
        {.sampler = sampler,
         .skip = count - 1,
         .kind = task->chances ? Draw::Kind::guess : Draw::Kind::next,
         .vocab = options_.vocab});
    draws.push_back(static_cast<int>(plan.draws.size()) - 1);
    for (int i = 0; i < count; ++i)
      plan.rows.push_back(first++);
    row = first - 1;
  }
  list = std::move(joined);
  if (list.empty()) return {};
  if (before) plan.drawn = before->result();
  Running running;
  try {
    running = forward_.start(std::move(plan));
  } catch (...) {
    for (auto* g : list)
      g->state->memory->rollback();
    throw;
  }
  for (auto* g : list) {
    auto& state = *g->state;
    if (!before) {
      auto unread = g->task->known.subspan(state.read.size());
      state.memory->commit(static_cast<int>(unread.size()));
      state.read.insert(state.read.end(), unread.begin(), unread.end());
      // Where recurrent layers come back to when guesses are wrong.
      state.memory->mark();
    } else {
      state.memory->commit(1);
    }
  }
  return running;
}

void DraftModel::take(Guessing& g, std::vector<Running>& passes) const {
  auto& draft = g.task->draft;
  for (std::size_t i = 0; i < g.draws.size(); ++i) {
    auto& drawn = passes[i].drawn()[g.draws[i]];
    int token = drawn.tokens[0].token;
    // All but the last have been read.
    if (i + 1 < g.draws.size()) g.state->read.push_back(std::max(token, 0));
    if (token < 0 || static_cast<int>(i) > draft.count()) continue;
    draft.tokens.push_back(token);
    if (g.task->chances) draft.from.push_back(std::move(drawn.from));
  }
}

void DraftModel::rest() {
  forward_.forget();
  forward_.memory().release_unused();
}

} // namespace mlxlm

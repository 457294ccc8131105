#include "generate/drafting/draft_round.h"

#include <mlx/ops.h>

#include <utility>

#include "core/check.h"
#include "nn/decoder.h"

namespace mlxlm {
namespace {

// Adds the next pass of one sequence, which begins at row `first`.
void join(PassPlan& plan, Guessing& g, int first, bool later, int vocab) {
  int count = later ? 1 : static_cast<int>(g.unread.size());
  plan.segments.push_back(
      {.sequence = g.memory,
       .first = first,
       .count = count,
       .offset = g.memory->length(),
       .looks = g.looks});
  if (later) {
    plan.tokens.rows.push_back(g.row);
  } else {
    auto& known = plan.tokens.known;
    known.insert(known.end(), g.unread.begin(), g.unread.end());
  }
  // Passes whose rows are all drawn from are recorded; with hidden states none
  // is.
  int skip = g.hidden ? 0 : count - 1;
  plan.draws.push_back(
      {.sampler = g.sampler,
       .skip = skip,
       .kind = g.task->chances ? Draw::Kind::guess : Draw::Kind::next,
       .vocab = vocab});
  g.draws.push_back(static_cast<int>(plan.draws.size()) - 1);
  for (int i = count - 1 - skip; i < count; ++i)
    plan.rows.push_back(first + i);
  g.row = static_cast<int>(plan.rows.size()) - 1;
}

// The next guess of each. Those without room leave the list.
Running start(
    Forward& forward,
    std::vector<Guessing*>& list,
    const Running* before,
    int vocab) {
  PassPlan plan;
  std::vector<Guessing*> joined;
  std::vector<mx::array> hidden;
  std::vector<int> rows; // of the pass before
  int first = 0;
  for (auto* g : list) {
    int count = before ? 1 : static_cast<int>(g->unread.size());
    try {
      if (!g->looks) g->memory->begin(count);
    } catch (const Error&) {
      continue;
    }
    joined.push_back(g);
    if (g->hidden && !before) hidden.push_back(*g->hidden);
    rows.push_back(g->row);
    join(plan, *g, first, before != nullptr, vocab);
    first += count;
  }
  list = std::move(joined);
  if (list.empty()) return {};
  if (list.front()->hidden) {
    plan.hidden = before ? take_rows(before->hidden(), rows)
                         : mx::concatenate(std::move(hidden), 1);
    plan.keep = plan.rows;
  }
  if (before) plan.drawn = before->result();
  Running running;
  try {
    running = forward.start(std::move(plan));
  } catch (...) {
    for (auto* g : list)
      if (!g->looks) g->memory->rollback();
    throw;
  }
  for (auto* g : list) {
    if (g->looks) continue;
    g->memory->commit(before ? 1 : static_cast<int>(g->unread.size()));
    // Where recurrent layers come back to when guesses are wrong.
    if (!before) g->memory->mark();
  }
  return running;
}

void take(Guessing& g, std::vector<Running>& passes) {
  auto& draft = g.task->draft;
  for (std::size_t i = 0; i < g.draws.size(); ++i) {
    auto& drawn = passes[i].drawn()[g.draws[i]];
    int token = drawn.tokens[0].token;
    g.drawn.push_back(token);
    if (token < 0 || static_cast<int>(i) > draft.count()) continue;
    draft.tokens.push_back(token);
    if (g.task->chances) draft.from.push_back(std::move(drawn.from));
  }
}

} // namespace

void guess(Forward& forward, std::vector<Guessing>& all, int vocab) {
  std::vector<Guessing*> list;
  for (auto& g : all) {
    g.sampler = std::make_shared<Sampler>(*g.task->sampler);
    list.push_back(&g);
  }
  std::vector<Running> passes;
  while (!list.empty()) {
    const auto* before = passes.empty() ? nullptr : &passes.back();
    auto pass = start(forward, list, before, vocab);
    passes.push_back(std::move(pass));
    std::erase_if(list, [](const Guessing* g) {
      return static_cast<int>(g->draws.size()) >= g->task->most;
    });
  }
  for (auto& pass : passes)
    pass.finish();
  for (auto& g : all)
    take(g, passes);
}

} // namespace mlxlm

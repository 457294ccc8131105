// Tokens that a ModelRunner's sequences read ahead: known beforehand, guessed,
// taken or not; see model_runner.h.
#include <mlx/device.h>
#include <mlx/ops.h>

#include <algorithm>
#include <map>
#include <span>

#include "core/check.h"
#include "generate/model_runner_sequence.h"

namespace mlxlm {

namespace {

// What rows cost in a pass of one sequence, measured in passes of one row
// (docs/speed.md): little where reading the weights is what takes the time. The
// CPU's kernels multiply up to 24 straight from the packed weights. Constants
// of all machines, so that an answer does not depend on a clock.
DraftCosts row_costs() {
  if (mx::default_device() == mx::Device::cpu)
    return {.row = 0.17, .cheap_rows = 24, .many_rows = 1.6};
  return {.row = 0.05};
}

} // namespace

Drafter* ModelRunner::drafter_of(DraftKind kind) const {
  switch (kind) {
    case DraftKind::model:
      return draft_model_.get();
    case DraftKind::mtp:
      return prediction_.get();
    default:
      return prompt_lookup_.get();
  }
}

void ModelRunner::open_drafter(Sequence& sequence) const {
  const auto& request = *sequence.request;
  const auto& draft = request.draft;
  if (draft.kind == DraftKind::none) return;
  sequence.drafter = drafter_of(draft.kind);
  MLXLM_CHECK(sequence.drafter, "a request for a drafter that is not there");
  if (request.cache && request.cache->guessed_by == draft.kind)
    sequence.guesses = std::move(request.cache->guesses);
  if (!sequence.guesses) sequence.guesses = sequence.drafter->open();
  bool lookup = draft.kind == DraftKind::prompt_lookup;
  auto costs = row_costs();
  costs.guess = sequence.drafter->cost();
  costs.again = !forward_.memory().partial_commit();
  sequence.draft_length.emplace(
      draft.num_tokens.value_or(lookup ? 15 : 3), costs);
}

// Most tokens that a pass reads because they have to come; Engine keeps room
// for so many.
constexpr int most_forced = 15;

void ModelRunner::force(Part& part) {
  const auto& s = *part.sequence;
  if (!s.request->forced) return;
  part.draft.tokens = s.sampler->forced();
  int most = s.request->max_tokens - s.drawn - 1;
  part.draft.cut(std::min(most, most_forced));
  part.count += part.draft.count();
  part.forced = !part.draft.tokens.empty();
}

// Has tokens guessed where that is wanted, and none are known anyway.
void ModelRunner::draft(std::vector<Part>& parts) const {
  std::map<Drafter*, std::vector<DraftTask>> tasks;
  std::map<Drafter*, std::vector<Part*>> owners;
  for (auto& part : parts) {
    auto& s = *part.sequence;
    if (!part.piece.decode || !s.reads_ahead()) continue;
    // What recurrent layers had to forget is read again alone: guesses after it
    // could make it forgotten once more.
    if (part.count > 1) continue;
    force(part);
    if (part.forced || !s.drafter) continue;
    int most = s.request->max_tokens - s.drawn - 1;
    most = std::min(most, s.draft_length->next());
    if (most < 1) continue;
    bool chances = s.request->draft.acceptance == DraftAcceptance::rejection &&
        !s.request->sampling.greedy();
    tasks[s.drafter].push_back(
        {s.guesses.get(),
         s.tokens,
         most,
         s.sampler.get(),
         s.memory.get(),
         chances});
    owners[s.drafter].push_back(&part);
  }
  for (auto& [drafter, list] : tasks) {
    drafter->propose(list);
    for (std::size_t i = 0; i < list.size(); ++i) {
      auto& part = *owners[drafter][i];
      part.draft = std::move(list[i].draft);
      part.draft.cut(list[i].most);
      part.count += part.draft.count();
    }
  }
}

// Takes over what was drawn after a part, and keeps of what it read what led
// there.
void ModelRunner::settle(
    Part& part,
    DrawnTokens& drawn,
    std::vector<Drawn>& out) const {
  auto& s = *part.sequence;
  // What was guessed on past the end of the answer does not belong to it.
  auto& list = drawn.tokens;
  auto end = std::find_if(list.begin(), list.end(), [&](const Sampled& d) {
    return s.request->stop_tokens->count(d.token) > 0;
  });
  if (end != list.end()) list.erase(end + 1, list.end());
  int guessed = part.draft.count(), taken = static_cast<int>(list.size()) - 1;
  auto begin = out.size();
  for (auto& [token, logprob, top] : list) {
    out.push_back({part.piece.id, token, logprob, {}, out.size() == begin});
    out.back().top = std::move(top);
    s.broken = s.broken || token < 0;
    if (token < 0) {
      const auto& failure = s.sampler->failure();
      out.back().error = failure.empty()
          ? "logits: expected finite values, found none to draw"
          : failure;
    } else {
      s.tokens.push_back(token);
    }
    ++s.drawn;
  }
  if (!part.piece.decode || !s.reads_ahead()) return;
  part.seen.taken = taken;
  out[begin].guessed = guessed;
  out[begin].taken = taken;
  if (s.drafter && !part.forced) s.draft_length->learn(guessed, taken);
  int read = part.count - guessed + taken;
  if (read == part.count || forward_.memory().partial_commit())
    s.memory->commit(read);
  else
    s.memory->rollback();
}

// Shows drafters that want it what the model made of what it read.
void ModelRunner::show(const Pass& pass) {
  for (const auto& part : pass.parts) {
    auto& s = *part.sequence;
    if (!s.watched() || s.broken) continue;
    auto [row, offset, taken] = part.seen;
    int count = part.count - part.draft.count() + taken;
    const auto& hidden = pass.running->hidden();
    s.drafter->watch(
        *s.guesses,
        std::span(s.tokens).first(offset + count),
        mx::slice(hidden, {0, row, 0}, {1, row + count, hidden.shape(2)}));
  }
}

} // namespace mlxlm

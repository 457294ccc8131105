#include "generate/model_runner.h"

#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <exception>

#include "core/check.h"
#include "generate/common_prefix.h"
#include "generate/constraint.h"
#include "generate/drafting/prompt_lookup.h"
#include "generate/model_runner_sequence.h"
#include "runtime/memory/device.h"

namespace mlxlm {

ModelRunner::ModelRunner(
    std::shared_ptr<const Model> model,
    std::shared_ptr<Memory> memory,
    SequenceBudget budget,
    std::shared_ptr<PrefixTier> tier)
    : forward_(std::move(model), std::move(memory)),
      prompt_lookup_(std::make_unique<PromptLookup>()),
      prefixes_(std::make_shared<PrefixStore>(forward_.shared_memory())),
      budget_(std::move(budget)) {
  prefixes_->set_tier(std::move(tier));
}

ModelRunner::~ModelRunner() = default;

void ModelRunner::use_draft_model(std::unique_ptr<Drafter> drafter) {
  draft_model_ = std::move(drafter);
}

void ModelRunner::use_prediction(std::unique_ptr<Drafter> drafter) {
  prediction_ = std::move(drafter);
}

int ModelRunner::open(std::uint64_t id, const RequestPtr& request) {
  auto sequence = std::make_shared<Sequence>();
  sequence->request = request;
  const auto& prompt = request->prompt;
  if (request->cache && request->cache->memory) {
    // Extend, rewind or rebuild: keep what both begin with, but leave a token
    // to read, for the logits after it.
    auto keep = std::min<int>(
        common_prefix(request->cache->tokens, prompt),
        static_cast<int>(prompt.size()) - 1);
    auto memory = std::move(request->cache->memory);
    request->cache->tokens.clear();
    if (memory->length() > keep) keep = memory->trim(keep);
    if (keep > 0) {
      sequence->memory = std::move(memory);
      sequence->tokens.assign(prompt.begin(), prompt.begin() + keep);
    }
  }
  bool foreign = request->cache && request->cache->foreign;
  if (request->share_prefix && !foreign) {
    sequence->prefixes = prefixes_;
    find_prefix(*sequence);
  }
  if (!sequence->memory) sequence->memory = forward_.memory().sequence();
  sequence->sampler = std::make_shared<Sampler>(
      request->sampling,
      request->seed,
      prompt,
      request->logprobs,
      request->sample);
  if (request->constraint)
    sequence->sampler->constrain(Constraint(*request->constraint));
  open_drafter(*sequence);
  prefixes_->fit();
  auto cached = static_cast<int>(sequence->tokens.size());
  sequences_[id] = std::move(sequence);
  return cached;
}

int ModelRunner::adapter_of(const Sequence& sequence) {
  const auto& adapter = sequence.request->adapter;
  return adapter ? adapter->id() : 0;
}

void ModelRunner::close(std::uint64_t id) {
  // Passes under way keep it alive: pages are not reused before they are done.
  sequences_.erase(id);
}

std::vector<ModelRunner::Part> ModelRunner::parts_of(
    const std::vector<Piece>& pieces) const {
  std::vector<Part> parts;
  for (const auto& piece : pieces) {
    auto it = sequences_.find(piece.id);
    if (it == sequences_.end()) continue;
    bool ahead = piece.decode && it->second->reads_ahead();
    parts.push_back(
        {it->second, piece, ahead ? it->second->unread() : piece.count});
  }
  return parts;
}

// Begins what the part reads; false: there is no room, not even without
// guesses.
bool ModelRunner::reserve(Part& part, std::vector<Drawn>& left_out) {
  auto& memory = *part.sequence->memory;
  try {
    prefixes_->begin(memory, part.count);
    return true;
  } catch (const std::exception& error) {
    if (part.draft.tokens.empty()) {
      left_out.push_back({part.piece.id, -1, 0, error.what()});
      return false;
    }
  }
  part.count -= part.draft.count();
  part.draft = {};
  part.forced = false;
  return reserve(part, left_out);
}

// The pieces that have room, those whose token the pass before draws first.
void ModelRunner::take_parts(const std::vector<Piece>& pieces, Pass& pass) {
  auto parts = parts_of(pieces);
  draft(parts);
  for (auto& part : parts)
    if (reserve(part, pass.left_out)) pass.parts.push_back(std::move(part));
  std::stable_partition(
      pass.parts.begin(), pass.parts.end(), [&](const Part& part) {
        return part.piece.decode && part.sequence->drawn_in == started_;
      });
}

// The ids that pass `number` draws, if they have not been read back yet.
const mx::array* ModelRunner::ids_under_way(std::uint64_t number) const {
  for (const auto& pass : passes_)
    if (pass.number == number && !pass.drawing.empty())
      return &pass.running->result();
  return nullptr;
}

// Tokens that are being drawn are taken from the pass before, unread.
TokenJob ModelRunner::tokens_of(const Pass& pass) const {
  TokenJob job;
  auto& list = job.known;
  bool under_way = ids_under_way(started_) != nullptr;
  for (const auto& [sequence, piece, count, draft, forced, seen] : pass.parts) {
    const auto& known = sequence->tokens;
    if (!piece.decode) {
      auto begin = sequence->script().begin() +
          static_cast<std::ptrdiff_t>(known.size());
      list.insert(list.end(), begin, begin + count);
    } else if (under_way && sequence->drawn_in == started_) {
      job.rows.push_back(sequence->row);
    } else {
      list.insert(
          list.end(), known.end() - (count - draft.count()), known.end());
      list.insert(list.end(), draft.tokens.begin(), draft.tokens.end());
    }
  }
  return job;
}

PassPlan ModelRunner::plan_of(Pass& pass) const {
  PassPlan plan{.tokens = tokens_of(pass)};
  if (!plan.tokens.rows.empty()) plan.drawn = *ids_under_way(started_);
  bool watched =
      std::any_of(pass.parts.begin(), pass.parts.end(), [](const Part& part) {
        return part.sequence->watched();
      });
  int first = 0, index = 0;
  for (auto& [sequence, piece, count, draft, forced, seen] : pass.parts) {
    plan.segments.push_back(
        {.sequence = sequence->memory.get(),
         .first = first,
         .count = count,
         .offset = sequence->memory->length(),
         .goal = piece.decode ? 0 : static_cast<int>(sequence->script().size()),
         .apart = true});
    plan.adapters.push_back(adapter_of(*sequence));
    first += count;
    int drawn = piece.samples ? 1 + draft.count() : 0;
    seen = {static_cast<int>(plan.keep.size()), sequence->memory->length()};
    int wanted = !watched ? 0 : sequence->watched() ? count : drawn;
    for (int row = first - wanted; row < first; ++row)
      plan.keep.push_back(row);
    for (int row = first - drawn; row < first; ++row)
      plan.rows.push_back(row);
    if (piece.samples) {
      plan.draws.push_back({.sampler = sequence->sampler, .draft = draft});
      pass.drawing.push_back(index);
    }
    ++index;
  }
  return plan;
}

void ModelRunner::start(const std::vector<Piece>& pieces) {
  Pass pass;
  take_parts(pieces, pass);
  if (!pass.parts.empty()) {
    try {
      pass.running = forward_.start(plan_of(pass));
    } catch (...) {
      for (auto& part : pass.parts)
        part.sequence->memory->rollback();
      throw;
    }
    pass.number = ++started_;
    commit(pass);
  }
  passes_.push_back(std::move(pass));
}

bool ModelRunner::ends_message(const Sequence& sequence) {
  const auto& stops = sequence.request->stop_tokens;
  return stops && stops->count(sequence.tokens.back());
}

// What is certain to be read counts as read.
void ModelRunner::commit(Pass& pass) {
  int row = -1;
  for (auto& [sequence, piece, count, draft, forced, seen] : pass.parts) {
    if (piece.samples) row += 1 + draft.count();
    if (piece.decode && sequence->reads_ahead()) continue; // settled at the end
    sequence->memory->commit(count);
    if (!piece.decode) {
      const auto& script = sequence->script();
      auto& read = sequence->tokens;
      auto begin = script.begin() + static_cast<std::ptrdiff_t>(read.size());
      read.insert(read.end(), begin, begin + count);
      if (ends_message(*sequence)) sequence->memory->mark();
      leave_so_far(*sequence);
      if (piece.samples) leave_prompt(*sequence);
      if (sequence->drafter) sequence->drafter->read(*sequence->guesses, read);
    }
    if (!piece.samples) continue;
    sequence->drawn_in = pass.number;
    sequence->row = row;
  }
  prefixes_->fit();
}

std::vector<Drawn> ModelRunner::finish() {
  auto pass = std::move(passes_.front());
  passes_.pop_front();
  auto drawn = std::move(pass.left_out);
  if (pass.running) {
    pass.running->finish();
    auto& all = pass.running->drawn();
    for (std::size_t i = 0; i < all.size(); ++i)
      settle(pass.parts[pass.drawing[i]], all[i], drawn);
    show(pass);
  }
  // What the array engine holds back would only grow (mlx-lm: every 512 steps).
  if (started_ % 512 == 0) mx::clear_cache();
  return drawn;
}

void ModelRunner::abandon() {
  for (auto& pass : passes_)
    for (auto& part : pass.parts)
      part.sequence->broken = true;
  prefixes_->clear(); // what these passes were to write is among it
  try {
    mx::synchronize();
  } catch (const std::exception&) {
    // The error that was reported already.
  }
  passes_.clear();
}

PageCounts ModelRunner::pages() const {
  return count_pages(forward_.memory(), prefixes_->tree().pages());
}

void ModelRunner::changed() {
  forward_.forget();
  for (const auto& drafter : {&draft_model_, &prediction_})
    if (*drafter) (*drafter)->changed();
}

void ModelRunner::rest() {
  forward_.forget();
  for (const auto& drafter : {&draft_model_, &prediction_})
    if (*drafter) (*drafter)->rest();
  forward_.memory().release_unused();
  release_memory();
}

} // namespace mlxlm

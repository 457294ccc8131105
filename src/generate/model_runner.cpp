#include "generate/model_runner.h"

#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <exception>

#include "core/check.h"
#include "generate/adapters.h"
#include "generate/common_prefix.h"
#include "generate/constraint.h"
#include "generate/drafting/prompt_lookup.h"

namespace mlxlm {

struct ModelRunner::Sequence {
  RequestPtr request;
  std::unique_ptr<SequenceMemory> memory;
  std::vector<int> tokens; // of the prompt, once read, then the drawn ones
  std::vector<int> again; // what a rewound one reads instead of the prompt
  int drawn = 0; // how many those are
  SamplerPtr sampler;
  Drafter* drafter = nullptr; // null: nothing is guessed
  std::unique_ptr<DraftState> guesses;
  std::optional<DraftLength> draft_length;
  std::uint64_t drawn_in = 0; // number of the pass that drew the last token
  int row = 0; // and its row there
  bool broken = false;
  std::shared_ptr<PrefixStore> prefixes; // null: leaves nothing to others
  PrefixPin pin = nullptr; // on what it shares

  // Of what it remembers, besides its tokens.
  std::uint64_t key() const {
    return request->adapter ? request->adapter->key() : 0;
  }
  const std::vector<int>& script() const { // what it reads
    return again.empty() ? request->prompt : again;
  }

  bool watched() const { // its hidden states are wanted
    return drafter && drafter->watches();
  }
  // Not: decoded token by token, a pass ahead.
  bool reads_ahead() const {
    return request->reads_ahead();
  }

  // Tokens that are known and not read. Without reading ahead: once the pass
  // under way is over.
  int unread() const {
    return static_cast<int>(tokens.size()) - memory->length();
  }

  // Gives back to the cache, or leaves to others, what the model has really
  // read. The last pass may have read one token more than is known.
  ~Sequence() {
    const auto& cache = request->cache;
    if ((!cache && !prefixes) || !memory || broken) return;
    auto known = static_cast<int>(tokens.size());
    if (memory->length() > known) known = memory->trim(known);
    tokens.resize(std::min(known, memory->length()));
    memory->mark();
    if (cache) {
      cache->guesses = std::move(guesses);
      cache->guessed_by = request->draft.kind;
      if (prefixes) prefixes->leave(tokens, *memory, key());
      cache->tokens = std::move(tokens);
      cache->memory = std::move(memory);
    } else {
      leave();
    }
  }

  // All that it has read, to others.
  void leave() const {
    prefixes->leave(tokens, *memory, key());
    prefixes->insert(tokens, *memory, key());
  }
};

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

namespace {

// What rows cost in a pass of one sequence, measured in passes of one row
// (docs/speed.md): little where reading the weights is what takes the time. The
// CPU's kernels multiply up to eight straight from the packed weights.
DraftCosts row_costs() {
  if (mx::default_device() == mx::Device::cpu)
    return {.row = 0.15, .cheap_rows = 8, .many_rows = 1.7};
  return {.row = 0.05};
}

} // namespace

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

// What another sequence has read of the prompt, if it is more.
void ModelRunner::find_prefix(Sequence& sequence) const {
  const auto& prompt = sequence.script();
  auto found = prefixes_->find(prompt, sequence.key());
  auto known = static_cast<int>(sequence.tokens.size());
  if (!found || found->length <= known) return;
  sequence.memory = std::move(found->memory);
  sequence.pin = std::move(found->pin);
  sequence.tokens.assign(prompt.begin(), prompt.begin() + found->length);
}

int ModelRunner::state_tokens() const {
  const auto& shape = prefixes_->shape();
  return shape.states ? shape.page_tokens : 0;
}

// Once a prompt is read others may begin with it: whole pages, as a page that
// is still written would have to be copied; but states are of the very end.
void ModelRunner::leave_prompt(Sequence& sequence) const {
  sequence.memory->mark();
  if (!sequence.prefixes) return;
  const auto& shape = prefixes_->shape();
  auto page = static_cast<std::size_t>(shape.page_tokens);
  std::span<const int> read(sequence.tokens);
  if (!shape.states) read = read.first(read.size() / page * page);
  prefixes_->leave(read, *sequence.memory, sequence.key());
  sequence.pin = prefixes_->insert(read, *sequence.memory, sequence.key());
}

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
      draft.num_tokens.value_or(lookup ? 7 : 3), costs);
}

void ModelRunner::close(std::uint64_t id) {
  // Passes under way keep it alive: pages are not reused before they are done.
  sequences_.erase(id);
}

void ModelRunner::rewind(std::uint64_t id) {
  auto& sequence = *sequences_.at(id);
  sequence.again = sequence.tokens;
  if (sequence.prefixes) { // as long as nobody needs the pages
    sequence.tokens.resize(sequence.memory->length());
    sequence.memory->mark();
    sequence.leave();
  }
  sequence.pin.reset();
  sequence.tokens.clear();
  sequence.memory = forward_.memory().sequence();
}

int ModelRunner::resume(std::uint64_t id) {
  auto& sequence = *sequences_.at(id);
  if (sequence.prefixes) find_prefix(sequence);
  return static_cast<int>(sequence.tokens.size());
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
         .apart = piece.decode});
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
      if (piece.samples) leave_prompt(*sequence);
      if (sequence->drafter) sequence->drafter->read(*sequence->guesses, read);
    }
    if (!piece.samples) continue;
    sequence->drawn_in = pass.number;
    sequence->row = row;
  }
  prefixes_->fit();
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
  mx::clear_cache();
  forward_.memory().release_unused();
}

} // namespace mlxlm

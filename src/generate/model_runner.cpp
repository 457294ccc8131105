#include "generate/model_runner.h"

#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <exception>

#include "core/check.h"
#include "generate/constraint.h"

namespace mlxlm {

struct ModelRunner::Sequence {
  RequestPtr request;
  std::unique_ptr<SequenceMemory> memory;
  std::vector<int> tokens; // of the prompt, once read, then the drawn ones
  std::vector<int> again; // what a rewound one reads instead of the prompt
  SamplerPtr sampler;
  std::uint64_t drawn_in = 0; // number of the pass that drew the last token
  int row = 0; // and its row there
  bool broken = false;
  std::shared_ptr<PrefixStore> prefixes; // null: leaves nothing to others

  const std::vector<int>& script() const { // what it reads
    return again.empty() ? request->prompt : again;
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
      cache->tokens = std::move(tokens);
      cache->memory = std::move(memory);
    } else {
      prefixes->insert(std::move(tokens), std::move(memory));
    }
  }
};

namespace {
constexpr int page_tokens = MemoryOptions{}.page_tokens;
} // namespace

ModelRunner::ModelRunner(
    std::shared_ptr<const Model> model,
    std::shared_ptr<Memory> memory,
    SequenceBudget budget)
    : model_(std::move(model)),
      memory_(std::move(memory)),
      budget_(std::move(budget)) {}

ModelRunner::~ModelRunner() = default;

namespace {

int common_prefix(const std::vector<int>& a, const std::vector<int>& b) {
  auto ends = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int>(ends.first - a.begin());
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
  if (request->share_prefix) {
    sequence->prefixes = prefixes_;
    find_prefix(*sequence);
  }
  if (!sequence->memory) sequence->memory = memory_->sequence();
  sequence->sampler = std::make_shared<Sampler>(
      request->sampling,
      request->seed,
      prompt,
      request->logprobs,
      request->sample);
  if (request->constraint)
    sequence->sampler->constrain(Constraint(*request->constraint));
  auto cached = static_cast<int>(sequence->tokens.size());
  sequences_[id] = std::move(sequence);
  return cached;
}

// What another sequence has read of the prompt, if it is more.
void ModelRunner::find_prefix(Sequence& sequence) const {
  const auto& prompt = sequence.script();
  auto found = prefixes_->find(prompt);
  auto known = static_cast<int>(sequence.tokens.size());
  if (!found || found->length <= known) return;
  sequence.memory = std::move(found->memory);
  sequence.tokens.assign(prompt.begin(), prompt.begin() + found->length);
}

// begin(tokens), for which what is only kept for others gives way.
void ModelRunner::make_room(SequenceMemory& memory, int tokens) {
  for (;;) {
    try {
      return memory.begin(tokens);
    } catch (const Error& error) {
      bool full = error.kind() == ErrorKind::resource;
      if (!full || !prefixes_->evict()) throw;
    }
  }
}

int ModelRunner::state_tokens() const {
  return memory_->partial_commit() ? 0 : page_tokens;
}

// Once a prompt is read others may begin with it: whole pages, as a page that
// is still written would have to be copied; but states are of the very end.
void ModelRunner::leave_prompt(Sequence& sequence) {
  sequence.memory->mark();
  if (!sequence.prefixes) return;
  auto all = static_cast<int>(sequence.tokens.size());
  bool states = state_tokens() > 0;
  auto whole = states ? all : all / page_tokens * page_tokens;
  if (whole == 0) return;
  auto copy = sequence.memory->fork();
  int reached = copy->trim(whole);
  std::vector<int> tokens(
      sequence.tokens.begin(), sequence.tokens.begin() + reached);
  sequence.prefixes->insert(std::move(tokens), std::move(copy));
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
    prefixes_->insert(std::move(sequence.tokens), std::move(sequence.memory));
  }
  sequence.tokens.clear();
  sequence.memory = memory_->sequence();
}

int ModelRunner::resume(std::uint64_t id) {
  auto& sequence = *sequences_.at(id);
  if (sequence.prefixes) find_prefix(sequence);
  return static_cast<int>(sequence.tokens.size());
}

// The pieces that have room, those whose token the pass before draws first.
void ModelRunner::take_parts(const std::vector<Piece>& pieces, Pass& pass) {
  for (const auto& piece : pieces) {
    auto it = sequences_.find(piece.id);
    if (it == sequences_.end()) continue;
    try {
      make_room(*it->second->memory, piece.count);
    } catch (const std::exception& error) {
      pass.left_out.push_back({piece.id, -1, 0, error.what()});
      continue;
    }
    pass.parts.push_back({it->second, piece});
  }
  std::stable_partition(
      pass.parts.begin(), pass.parts.end(), [&](const Part& part) {
        return part.piece.decode && part.sequence->drawn_in == started_;
      });
}

// The ids that pass `number` draws, if they have not been read back yet.
const mx::array* ModelRunner::ids_under_way(std::uint64_t number) const {
  for (const auto& pass : passes_)
    if (pass.number == number && !pass.rows.empty()) return &*pass.result;
  return nullptr;
}

// Tokens that are being drawn are taken from the pass before, unread.
TokenJob ModelRunner::tokens_of(const Pass& pass) const {
  TokenJob job;
  bool under_way = ids_under_way(started_) != nullptr;
  for (const auto& [sequence, piece] : pass.parts) {
    const auto& known = sequence->tokens;
    if (!piece.decode) {
      auto begin = sequence->script().begin() +
          static_cast<std::ptrdiff_t>(known.size());
      job.known.insert(job.known.end(), begin, begin + piece.count);
    } else if (under_way && sequence->drawn_in == started_) {
      job.rows.push_back(sequence->row);
    } else {
      job.known.push_back(known.back());
    }
  }
  return job;
}

// The segments; `rows`: those that draw, in the order of `samples`.
Step ModelRunner::step_of(
    Pass& pass,
    std::vector<int>& rows,
    SampleJob& samples) const {
  std::vector<Segment> segments;
  int first = 0;
  for (const auto& [sequence, piece] : pass.parts) {
    segments.push_back(
        {.sequence = sequence->memory.get(),
         .first = first,
         .count = piece.count,
         .offset = sequence->memory->length(),
         .goal =
             piece.decode ? 0 : static_cast<int>(sequence->script().size())});
    first += piece.count;
    if (!piece.samples) continue;
    rows.push_back(first - 1);
    samples.samplers.push_back(sequence->sampler);
    pass.rows.push_back(sequence);
    pass.row_ids.push_back(piece.id);
  }
  return Step(std::move(segments));
}

bool ModelRunner::Pass::decodes() const {
  return std::all_of(parts.begin(), parts.end(), [](const Part& part) {
    return part.piece.decode && part.piece.samples && part.piece.count == 1;
  });
}

// Builds the pass and starts it, or starts a recording of one like it.
void ModelRunner::begin(Pass& pass) {
  std::vector<int> rows;
  auto samples = std::make_shared<SampleJob>();
  auto tokens = std::make_shared<TokenJob>(tokens_of(pass));
  auto step = step_of(pass, rows, *samples);
  pass.sampled = std::make_shared<std::vector<Sampled>>(rows.size());
  samples->out = pass.sampled;
  std::optional<mx::array> drawn;
  if (!tokens->rows.empty()) drawn = *ids_under_way(started_);
  bool decodes = pass.decodes();
  PassInputs inputs{
      .tokens = tokens,
      .drawn = drawn,
      .tables = decodes ? memory_->tables(step) : nullptr,
      .samples = samples,
      .positions = step.recorded_positions(),
      .position_array = step.positions};
  if (decodes && recordings_.holds(step.tokens)) {
    pass.replay = recordings_.run(step.tokens, std::move(inputs));
    pass.result = recordings_.ids(step.tokens);
    return;
  }
  auto ids = pass_tokens(tokens, drawn);
  auto logits = (*model_)({.tokens = ids}, step, *memory_, rows);
  pass.result = rows.empty() ? logits : sample(logits, samples);
  if (decodes)
    recordings_.evaluate(*pass.result, std::move(inputs), step);
  else
    mx::async_eval(*pass.result);
}

void ModelRunner::start(const std::vector<Piece>& pieces) {
  Pass pass;
  take_parts(pieces, pass);
  if (!pass.parts.empty()) {
    try {
      begin(pass);
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

void ModelRunner::commit(Pass& pass) {
  int row = 0;
  for (auto& [sequence, piece] : pass.parts) {
    sequence->memory->commit(piece.count);
    if (!piece.decode) {
      const auto& script = sequence->script();
      auto& read = sequence->tokens;
      auto begin = script.begin() + static_cast<std::ptrdiff_t>(read.size());
      read.insert(read.end(), begin, begin + piece.count);
      if (ends_message(*sequence)) sequence->memory->mark();
      if (piece.samples) leave_prompt(*sequence);
    }
    if (!piece.samples) continue;
    sequence->drawn_in = pass.number;
    sequence->row = row++;
  }
}

std::vector<Drawn> ModelRunner::finish() {
  auto pass = std::move(passes_.front());
  passes_.pop_front();
  if (pass.replay)
    pass.replay->finish();
  else if (pass.result)
    mx::eval(*pass.result);
  auto drawn = std::move(pass.left_out);
  for (std::size_t row = 0; row < pass.rows.size(); ++row) {
    auto [token, logprob] = (*pass.sampled)[row];
    drawn.push_back({pass.row_ids[row], token, logprob, {}});
    if (token < 0) {
      const auto& failure = pass.rows[row]->sampler->failure();
      drawn.back().error = failure.empty()
          ? "logits: expected finite values, found none to draw"
          : failure;
    }
    pass.rows[row]->tokens.push_back(token);
  }
  // What the array engine holds back would only grow (mlx-lm: every 512 steps).
  if (started_ % 512 == 0) mx::clear_cache();
  return drawn;
}

void ModelRunner::abandon() {
  for (auto& pass : passes_)
    for (auto& part : pass.parts)
      part.sequence->broken = true;
  try {
    mx::synchronize();
  } catch (const std::exception&) {
    // The error that was reported already.
  }
  passes_.clear();
}

void ModelRunner::changed() {
  recordings_.forget();
}

void ModelRunner::rest() {
  recordings_.forget();
  mx::clear_cache();
  memory_->release_unused();
}

} // namespace mlxlm

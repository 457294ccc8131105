#include "model_run.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>

namespace mlxlm::conformance {

struct ModelRun::Sequence {
  const std::vector<int>* ids;
  int piece; // tokens a pass
  int goal; // tokens of its prompt
  std::unique_ptr<SequenceMemory> memory;
  int done = 0;
  Logits out;

  int next() const {
    return std::min(piece, static_cast<int>(ids->size()) - done);
  }
};

ModelRun::ModelRun(const std::string& folder, mx::Dtype type)
    : ModelRun(load_model(folder, {.dtype = type})) {}

ModelRun::ModelRun(LoadedModel model) : model_(std::move(model)) {}

std::unique_ptr<Memory> ModelRun::memory() const {
  return make_memory(
      model_.model->caches(),
      {.dtype = model_.compute_type, .storage = storage_});
}

int ModelRun::vocab() const {
  return model_.model->vocab();
}

// One pass over the next piece of each sequence; appends logits of all its
// tokens, or of the last of each.
Logits ModelRun::pass(
    Memory& memory,
    std::vector<Sequence*> sequences,
    bool all) const {
  std::vector<int> tokens, rows;
  std::vector<Segment> segments;
  for (auto* s : sequences) {
    int count = s->next(), first = static_cast<int>(tokens.size());
    s->memory->begin(count);
    segments.push_back({s->memory.get(), first, count, s->done, s->goal});
    for (int i = 0; i < count; ++i)
      tokens.push_back((*s->ids)[s->done + i]);
    for (int i = all ? 0 : count - 1; i < count; ++i)
      rows.push_back(first + i);
  }
  Step step(segments);
  mx::array ids(tokens.data(), {1, static_cast<int>(tokens.size())}, mx::int32);
  auto y = mx::contiguous((*model_.model)({ids}, step, memory, rows));
  y.eval();
  Logits out(y.data<float>(), y.data<float>() + y.size());
  for (auto* s : sequences) {
    int count = s->next();
    s->memory->commit(count);
    s->done += count;
  }
  return out;
}

Logits ModelRun::logits(const std::vector<int>& ids, int chunk) const {
  auto memory = this->memory();
  int length = static_cast<int>(ids.size());
  Sequence s{&ids, chunk, length, memory->sequence()};
  Logits out;
  while (s.next() > 0) {
    auto part = pass(*memory, {&s}, true);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

Logits ModelRun::decode(
    const std::vector<int>& ids,
    const std::vector<int>& next) const {
  auto memory = this->memory();
  auto all = ids;
  all.insert(all.end(), next.begin(), next.end());
  all.pop_back();
  int length = static_cast<int>(ids.size());
  Sequence s{&all, length, length, memory->sequence()};
  Logits out;
  while (s.next() > 0) {
    auto part = pass(*memory, {&s}, false);
    out.insert(out.end(), part.begin(), part.end());
    s.piece = 1;
  }
  return out;
}

std::vector<Logits> ModelRun::together(
    const std::vector<std::vector<int>>& sequences,
    const std::vector<int>& pieces) const {
  auto memory = this->memory();
  std::size_t longest = 0;
  for (const auto& s : sequences)
    longest = std::max(longest, s.size());
  std::vector<Sequence> all;
  for (std::size_t i = 0; i < sequences.size(); ++i)
    all.push_back(
        {&sequences[i],
         pieces[i],
         static_cast<int>(longest),
         memory->sequence()});
  for (;;) {
    std::vector<Sequence*> running;
    std::vector<int> counts;
    for (auto& s : all) {
      if (s.next() == 0) continue;
      running.push_back(&s);
      counts.push_back(s.next());
    }
    if (running.empty()) break;
    auto out = pass(*memory, running, true);
    auto at = out.begin();
    for (std::size_t i = 0; i < running.size(); ++i) {
      auto end = at + static_cast<std::ptrdiff_t>(counts[i]) * vocab();
      running[i]->out.insert(running[i]->out.end(), at, end);
      at = end;
    }
  }
  std::vector<Logits> out;
  for (auto& s : all)
    out.push_back(std::move(s.out));
  return out;
}

} // namespace mlxlm::conformance

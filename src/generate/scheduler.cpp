#include "generate/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace mlxlm {

int balanced_chunk(int tokens, int step) {
  int chunks = (tokens + step - 1) / step;
  return (tokens + chunks - 1) / chunks;
}

std::optional<std::string> Scheduler::submit(const Job& job) {
  MLXLM_CHECK(job.prefill >= 1 && job.new_tokens >= 1, "empty job");
  if (waiting_.size() >= static_cast<std::size_t>(limits_.max_waiting))
    return fmt::format(
        "expected fewer than {} waiting requests, found the queue full",
        limits_.max_waiting);
  waiting_.push_back(job);
  return std::nullopt;
}

bool Scheduler::follows_a_reader(const Job& job) const {
  return std::any_of(running_.begin(), running_.end(), [&](const Running& r) {
    return r.job.id == job.follows && r.unread > 0;
  });
}

std::vector<std::uint64_t> Scheduler::admit(
    const std::function<bool(const Job&)>& fits) {
  std::vector<std::uint64_t> admitted;
  // Strictly in order: a large request is not overtaken for ever by small ones.
  auto most = static_cast<std::size_t>(limits_.max_sequences);
  while (!waiting_.empty() && running_.size() < most &&
         !follows_a_reader(waiting_.front()) &&
         (!fits || fits(waiting_.front()))) {
    const auto& job = waiting_.front();
    admitted.push_back(job.id);
    running_.push_back({job, job.prefill, job.new_tokens});
    waiting_.pop_front();
  }
  return admitted;
}

bool Scheduler::held(const Running& running) const {
  auto group = running.job.group;
  if (group == 0) return false;
  return std::any_of(running_.begin(), running_.end(), [&](const Running& r) {
    return r.job.group == group && r.unread > 0;
  });
}

std::vector<Piece> Scheduler::plan(
    const std::function<int(int decoding, int reading, int most)>& beside) {
  std::vector<Piece> pieces;
  for (auto& r : running_)
    if (r.unread == 0 && r.left > 0 && !r.stands && !held(r)) {
      --r.left;
      pieces.push_back({r.job.id, 1, true, true});
    }
  auto decoding = static_cast<int>(pieces.size());
  int budget = std::max(1, limits_.step_tokens - decoding);
  if (beside && decoding > 0 && !short_burst(decoding))
    budget = std::clamp(beside(decoding, reading(), budget), 1, budget);
  plan_prefill(budget, pieces);
  return pieces;
}

int Scheduler::reading() const {
  return static_cast<int>(
      std::count_if(running_.begin(), running_.end(), [](const Running& r) {
        return r.reads();
      }));
}

// More read than decode, and will soon have read all.
bool Scheduler::short_burst(int decoding) const {
  constexpr int passes = 4;
  int unread = 0;
  for (const auto& r : running_)
    unread += r.unread;
  return reading() > decoding && unread <= passes * limits_.step_tokens;
}

void Scheduler::skip(std::uint64_t id, int tokens) {
  auto* runs = find(id);
  if (!runs) return;
  MLXLM_CHECK(tokens < runs->unread, "a token to read");
  runs->unread -= tokens;
}

void Scheduler::read(
    Running& r,
    int count,
    int budget,
    std::vector<Piece>& pieces) {
  const auto& job = r.job;
  int at = job.prefill - r.unread, align = job.align;
  if (count < r.unread) {
    int up = (at + count + align - 1) / align * align - at;
    int down = (at + count) / align * align - at;
    if (up <= std::min(budget, r.unread))
      count = up;
    else if (down > 0)
      count = down;
  }
  for (int end : job.ends)
    if (end > at && end < at + count) count = end - at;
  r.unread -= count;
  bool last = r.unread == 0;
  if (last) --r.left;
  pieces.push_back({r.job.id, count, false, last});
}

void Scheduler::plan_prefill(int budget, std::vector<Piece>& pieces) {
  std::vector<Running*> reading;
  for (auto& r : running_)
    if (r.reads()) reading.push_back(&r);
  if (reading.empty()) return;

  auto* oldest = reading.front();
  int others = 0; // what they take
  if (reading.size() > 1) {
    std::stable_sort(
        reading.begin() + 1, reading.end(), [](Running* a, Running* b) {
          return a->unread < b->unread;
        });
    // A piece goes through all that its prompt has behind it: small ones are
    // of one prompt, in turns.
    bool turns = budget < limits_.step_tokens / 4;
    others_turn_ = turns && !others_turn_;
    int first = others_turn_ ? 0 : turns ? budget : (budget + 1) / 2;
    int room = budget - std::min(oldest->unread, first);
    for (std::size_t i = 1; i < reading.size() && others < room; ++i)
      others += std::min(reading[i]->unread, room - others);
  }
  if (int first = budget - others; first > 0)
    read(*oldest, balanced_chunk(oldest->unread, first), first, pieces);
  for (std::size_t i = 1; i < reading.size() && others > 0; ++i) {
    int count = std::min(reading[i]->unread, others);
    others -= count;
    read(*reading[i], count, count, pieces);
  }
}

void Scheduler::finish(std::uint64_t id) {
  auto waits =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const Job& j) {
        return j.id == id;
      });
  if (waits != waiting_.end()) waiting_.erase(waits);
  if (auto* runs = find(id))
    running_.erase(running_.begin() + (runs - running_.data()));
}

const Scheduler::Running* Scheduler::find(std::uint64_t id) const {
  auto runs =
      std::find_if(running_.begin(), running_.end(), [&](const Running& r) {
        return r.job.id == id;
      });
  return runs == running_.end() ? nullptr : &*runs;
}

Scheduler::Running* Scheduler::find(std::uint64_t id) {
  return const_cast<Running*>(std::as_const(*this).find(id));
}

void Scheduler::hold(std::uint64_t id, bool stands) {
  if (auto* runs = find(id)) runs->stands = stands;
}

void Scheduler::wait(std::uint64_t id, bool waits) {
  if (auto* runs = find(id)) runs->waits = waits;
}

void Scheduler::cut(std::uint64_t id, int tokens) {
  auto* runs = find(id);
  if (!runs) return;
  auto& ends = runs->job.ends;
  ends.insert(std::lower_bound(ends.begin(), ends.end(), tokens), tokens);
}

int Scheduler::unread(std::uint64_t id) const {
  const auto* runs = find(id);
  return runs ? runs->unread : 0;
}

void Scheduler::requeue(std::uint64_t id, int prefill, int new_tokens) {
  auto* runs = find(id);
  MLXLM_CHECK(runs, "a running sequence");
  auto job = runs->job;
  finish(id);
  job.prefill = prefill;
  job.new_tokens = new_tokens;
  waiting_.push_front(std::move(job));
}

} // namespace mlxlm

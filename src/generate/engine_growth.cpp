// Memory step by step; see engine.h. Open-ended sequences take it as they grow,
// the oldest first. One that finds none stands still until somebody ends; when
// all stand, the youngest begins again later.
#include <algorithm>

#include "generate/engine.h"

namespace mlxlm {

void Engine::reserve_next() {
  constexpr int ahead = 16; // tokens that one pass may add
  standing_ = 0;
  for (auto& [id, active] : active_) {
    auto prompt = static_cast<int>(active.request->prompt.size());
    int length =
        std::max(active.planned, prompt + active.info.generation_tokens);
    if (!active.runs || length + ahead <= active.reserved) continue;
    int total = prompt + active.request->max_tokens;
    auto more = std::min(total, active.reserved + active.growth);
    if (more <= active.reserved) continue; // all that it may ever draw
    bool room = admission_->grow(id, more);
    if (room) active.reserved = more;
    scheduler_.hold(id, !room);
    standing_ += !room;
  }
}

// Nothing can be planned and nothing is under way: somebody gives memory back.
void Engine::make_way() {
  std::vector<std::uint64_t> running;
  for (const auto& [id, active] : active_)
    if (active.runs) running.push_back(id);
  if (running.size() > 1) return rewind(running.back());
  // Alone, and what is missing is held by others than requests.
  end(running.front(), FinishReason::length);
}

void Engine::rewind(std::uint64_t id) {
  auto& active = active_.at(id);
  const auto& request = *active.request;
  runner_->rewind(id);
  admission_->give_back(id);
  active.runs = false;
  active.waits_for = 0;
  active.growth *= 2; // rarely twice
  int drawn = active.info.generation_tokens;
  auto read = static_cast<int>(request.prompt.size()) + drawn;
  active.reserved = read + std::min(active.growth, request.max_tokens - drawn);
  scheduler_.requeue(id, read, request.max_tokens - drawn);
}

} // namespace mlxlm

// Prompts that begin as others that are being read; see engine.h.
#include <algorithm>

#include "generate/common_prefix.h"
#include "generate/engine.h"

namespace mlxlm {

// One that begins as another that is being read waits until that much has been
// read, if it is worth it. Whoever waits is not waited for, so there is no
// circle.
void Engine::wait_for_reader(std::uint64_t id) {
  auto& active = active_.at(id);
  const auto& request = *active.request;
  int page = runner_->shared_tokens();
  if (page == 0 || !request.share_prefix || request.cache) return;
  auto most = static_cast<int>(request.prompt.size()) - 1;
  int least = active.info.cached_prompt_tokens + 2 * page;
  std::uint64_t reader = 0;
  for (const auto& [other, about] : active_) {
    const auto& theirs = *about.request;
    bool reads =
        about.runs && about.waits_for == 0 && scheduler_.unread(other) > 0;
    bool alike = other != id && reads && theirs.share_prefix &&
        theirs.adapter == request.adapter &&
        theirs.cache_salt == request.cache_salt;
    if (!alike) continue;
    int common = std::min(most, common_prefix(request.prompt, theirs.prompt));
    common = common / page * page;
    if (common < least) continue;
    least = common + 1;
    reader = other;
    active.goal = common;
  }
  if (reader == 0 || !runner_->leave_at(reader, active.goal)) return;
  if (is_read(reader, active.goal)) return look_again(id);
  scheduler_.cut(reader, active.goal);
  scheduler_.wait(id, true);
  active.waits_for = reader;
}

// Or will not be by this one.
bool Engine::is_read(std::uint64_t reader, int goal) const {
  auto it = active_.find(reader);
  int unread = scheduler_.unread(reader);
  if (it == active_.end() || unread == 0) return true;
  const auto& active = it->second;
  auto script = static_cast<int>(active.request->prompt.size()) +
      active.info.generation_tokens; // of one that reads again
  return script - unread >= goal;
}

void Engine::look_again(std::uint64_t id) {
  auto& active = active_.at(id);
  int before = active.info.cached_prompt_tokens;
  known(active, std::max(before, runner_->look_again(id)));
  scheduler_.skip(id, active.info.cached_prompt_tokens - before);
}

// Those who waited look for what has been read.
void Engine::go_on() {
  for (auto& [id, active] : active_) {
    if (active.waits_for == 0 || !is_read(active.waits_for, active.goal))
      continue;
    active.waits_for = 0;
    scheduler_.wait(id, false);
    look_again(id);
    wait_for_reader(id); // another who has more of it
  }
}

} // namespace mlxlm

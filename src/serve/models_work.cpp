// What the table's thread does: loads what is wanted, unloads what is idle,
// makes room.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "serve/models_core.h"

namespace mlxlm::serve {
namespace {

using std::chrono::milliseconds;

// How often memory is looked at that running answers hold.
constexpr auto glance = milliseconds(100);

} // namespace

Models::Clock::time_point Models::work() {
  std::unique_lock lock(core_->mutex);
  core_->stirred = false;
  auto now = core_->options.now();
  auto next = Clock::time_point::max();
  for (std::size_t i = 0; i < core_->slots.size(); ++i) {
    auto& slot = *core_->slots[i];
    if (!slot.idle() || !slot.keep) continue;
    auto end = slot.used + *slot.keep;
    if (end > now) {
      next = std::min(next, end);
      continue;
    }
    core_->say(fmt::format("{} is unloaded: idle", slot.name()));
    put_away(lock, slot);
  }
  while (load_next(lock, next)) {
  }
  return next;
}

// Takes its memory back; the lock is let go meanwhile.
void Models::put_away(std::unique_lock<std::mutex>& lock, Slot& slot) {
  auto engine = std::move(slot.engine);
  auto ticket = std::move(slot.ticket);
  auto base = std::move(slot.base);
  slot.engine = nullptr;
  slot.ticket.reset();
  slot.keep = slot.stays ? KeepAlive() : core_->options.keep_alive;
  lock.unlock();
  engine.reset();
  base.reset();
  if (ticket) core_->options.memory->end(*ticket);
  lock.lock();
}

// What an adapter is for is loaded first, and stays while it does.
Models::Base Models::want_base(Slot& slot) {
  if (!slot.below || slot.base) return Base::there;
  if (slot.below->engine) {
    slot.base = lease(core_, *slot.below, false);
    return Base::there;
  }
  if (slot.awaited && slot.awaited->over()) return Base::failed;
  if (!slot.below->loading) core_->want(*slot.below);
  slot.awaited = slot.below->loading;
  return Base::awaited;
}

// The first that is wanted and for which there is room; false: none.
bool Models::load_next(
    std::unique_lock<std::mutex>& lock,
    Clock::time_point& next) {
  auto& queue = core_->queue;
  for (std::size_t i = 0; i < queue.size(); ++i) {
    auto& slot = *queue[i];
    // Who asked for it has gone.
    bool unwanted = slot.loading.use_count() == 1;
    auto base = unwanted ? Base::failed : want_base(slot);
    if (base == Base::awaited) continue;
    if (base == Base::failed && !unwanted) {
      queue.erase(std::find(queue.begin(), queue.end(), &slot));
      end_loading(lock, slot, slot.awaited->error());
      return true;
    }
    auto room = unwanted ? Room::never : make_room(lock, slot);
    auto end = slot.wanted + core_->options.patience;
    if (room == Room::busy && core_->options.now() < end) {
      next = std::min({next, end, core_->options.now() + glance});
      continue;
    }
    queue.erase(std::find(queue.begin(), queue.end(), &slot));
    if (room == Room::there) {
      load_slot(lock, slot);
      return true;
    }
    auto sizes = core_->sizes(slot);
    auto error = room == Room::busy
        ? load_failure(
              503,
              sizes + ", and others use too much of it now.",
              "insufficient_memory",
              5)
        : load_failure(503, sizes + ".", "insufficient_memory");
    end_loading(lock, slot, error);
    return true;
  }
  return false;
}

// Unloads the least recently used idle ones until the ticket is admitted.
Models::Room Models::make_room(std::unique_lock<std::mutex>& lock, Slot& slot) {
  const auto& options = core_->options;
  if (!options.memory) return Room::there;
  if (slot.bytes > options.budget) return Room::never;
  auto ticket = make_ticket(
      std::max<std::int64_t>(1, static_cast<std::int64_t>(slot.bytes)),
      options.group,
      WiredKind::reservation);
  for (;;) {
    auto start = options.memory->start(ticket, Clock::now());
    if (start.outcome != WiredStart::Outcome::expired) {
      slot.ticket = ticket;
      return Room::there;
    }
    auto* oldest = core_->oldest_idle();
    if (!oldest) return Room::busy;
    core_->say(fmt::format(
        "{} is unloaded: {} needs room", oldest->name(), slot.name()));
    put_away(lock, *oldest);
  }
}

void Models::load_slot(std::unique_lock<std::mutex>& lock, Slot& slot) {
  EnginePtr engine;
  std::exception_ptr error;
  auto facts = slot.facts;
  auto adapter = slot.adapter, name = slot.name();
  auto base = slot.base;
  lock.unlock();
  try {
    engine = core_->options.load(facts, adapter, base);
  } catch (const std::exception& what) {
    error = std::current_exception();
    std::lock_guard inner(slot.loading->mutex_);
    if (!slot.loading->reported_)
      core_->say(fmt::format("{}: {}", name, what.what()));
  } catch (const ApiError&) {
    error = std::current_exception();
  }
  base.reset();
  std::size_t weights = 0;
  if (engine) weights = engine->memory().weights;
  lock.lock();
  if (weights > 0) slot.bytes = weights;
  if (engine) return settle(lock, slot, std::move(engine));
  if (auto ticket = std::exchange(slot.ticket, std::nullopt))
    core_->options.memory->end(*ticket);
  put_away(lock, slot);
  end_loading(lock, slot, error);
}

// What it really takes may be more than its files told.
void Models::settle(
    std::unique_lock<std::mutex>& lock,
    Slot& slot,
    EnginePtr engine) {
  auto name = slot.facts.model; // a model keeps its name
  slot.facts = engine->facts();
  slot.facts.model = std::move(name);
  bool fits = !slot.ticket || slot.bytes <= core_->options.budget;
  auto bytes = static_cast<std::int64_t>(slot.bytes);
  while (fits && slot.ticket &&
         !core_->options.memory->resize(*slot.ticket, bytes)) {
    auto* oldest = core_->oldest_idle();
    if (oldest) put_away(lock, *oldest);
    fits = oldest != nullptr;
  }
  slot.engine = std::move(engine);
  slot.used = core_->options.now();
  if (fits) {
    core_->say(
        fmt::format("{} is loaded: {}", slot.name(), human_bytes(slot.bytes)));
    return end_loading(lock, slot, nullptr);
  }
  put_away(lock, slot);
  bool never = slot.bytes > core_->options.budget;
  auto error = load_failure(
      503, core_->sizes(slot) + ".", "insufficient_memory", never ? 0 : 5);
  end_loading(lock, slot, error);
}

// Tells everybody who waits; the lock is let go meanwhile.
void Models::end_loading(
    std::unique_lock<std::mutex>& lock,
    Slot& slot,
    std::exception_ptr error) {
  auto loading = std::exchange(slot.loading, nullptr);
  auto awaited = std::exchange(slot.awaited, nullptr);
  auto engine = slot.engine ? lease(core_, slot, true) : nullptr;
  lock.unlock();
  std::vector<std::function<void()>> wakes;
  {
    std::lock_guard inner(loading->mutex_);
    loading->over_ = true;
    loading->error_ = error;
    loading->engine_ = std::move(engine);
    wakes.swap(loading->wakes_);
  }
  for (auto& wake : wakes)
    wake();
  // May be the last that keep a model, which takes the lock.
  loading.reset();
  awaited.reset();
  lock.lock();
}

void Models::run() {
  for (;;) {
    auto next = work();
    std::unique_lock lock(core_->mutex);
    auto due = [&] { return core_->closed || core_->stirred; };
    if (next == Clock::time_point::max())
      core_->changed.wait(lock, due);
    else
      core_->changed.wait_until(lock, next, due);
    if (core_->closed) return;
  }
}

} // namespace mlxlm::serve

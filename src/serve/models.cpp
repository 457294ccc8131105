#include "serve/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::serve {
namespace {

using std::chrono::milliseconds;

// How often memory is looked at that running answers hold.
constexpr auto glance = milliseconds(100);

std::exception_ptr failure(
    int status,
    std::string message,
    std::string code,
    int retry_after = 0) {
  return std::make_exception_ptr(ApiError{
      status, std::move(message), "model", std::move(code), retry_after});
}

} // namespace

// ---- loading ---------------------------------------------------------------
bool Loading::over() const {
  std::lock_guard lock(mutex_);
  return over_;
}

EnginePtr Loading::engine() const {
  std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
  return engine_;
}

// ---- what is kept ----------------------------------------------------------
// A model, or a model with an adapter.
struct Models::Slot {
  EngineFacts facts;
  std::string adapter;
  std::vector<std::string> aliases;
  bool stays = false;
  std::size_t bytes = 0; // that it takes; learned when it is loaded
  EnginePtr engine; // null: not loaded
  std::optional<WiredTicket> ticket;
  LoadingPtr loading; // wanted
  Clock::time_point wanted; // since
  int users = 0;
  KeepAlive keep;
  Clock::time_point used; // last
  std::uint64_t turn = 0; // of its last use among all

  bool idle() const {
    return engine && users == 0;
  }
  std::string name() const {
    return adapter.empty() ? facts.model : facts.model + "+" + adapter;
  }
};

// Outlives the table while somebody uses a model of it.
struct Models::Core {
  explicit Core(ModelsOptions given) : options(std::move(given)) {}
  ~Core() {
    for (auto& slot : slots) {
      slot->engine.reset();
      if (slot->ticket) options.memory->end(*slot->ticket);
    }
  }

  // Base slots have no adapter and are as the options list them.
  Slot* find(const std::string& name, const std::string& adapter) {
    for (auto& slot : slots)
      if (slot->facts.model == name && slot->adapter == adapter)
        return slot.get();
    return nullptr;
  }
  Slot* find_named(const std::string& name);
  Slot& wished(const ModelWish& wish, bool make);
  Slot& variant(Slot& base, const std::string& adapter, bool make);
  // The least recently used one that nobody uses; null: none.
  Slot* oldest_idle() {
    Slot* out = nullptr;
    for (auto& slot : slots)
      if (slot->idle() && (!out || slot->turn < out->turn)) out = slot.get();
    return out;
  }
  std::string sizes(const Slot& slot) const {
    return fmt::format(
        "The model \"{}\" takes {} of memory; the budget is {}",
        slot.name(),
        human_bytes(slot.bytes),
        human_bytes(options.budget));
  }
  void say(const std::string& what) const {
    if (options.log) options.log(what);
  }

  const ModelsOptions options;
  mutable std::mutex mutex; // of all that follows
  std::condition_variable changed;
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<Slot*> queue; // wanted, in order
  std::uint64_t turns = 0;
  bool closed = false;
  bool stirred = false; // something to look at
};

Models::Slot* Models::Core::find_named(const std::string& name) {
  if (auto* slot = find(name, "")) return slot;
  for (auto& slot : slots)
    for (const auto& alias : slot->aliases)
      if (slot->adapter.empty() && alias == name) return slot.get();
  if (ends_with(name, ":latest"))
    return find_named(name.substr(0, name.size() - 7));
  return nullptr;
}

// Names that come from a request are only ever compared.
Models::Slot& Models::Core::wished(const ModelWish& wish, bool make) {
  auto adapter = wish.adapter;
  const auto& name = wish.model;
  Slot* base = nullptr;
  bool unnamed = name.empty() || name == "default_model" || name == "default";
  if (unnamed && (options.first_is_default || options.models.size() == 1))
    base = slots.front().get();
  else
    base = find_named(name);
  if (auto plus = name.rfind('+');
      !base && adapter.empty() && plus != std::string::npos) {
    base = find_named(name.substr(0, plus));
    adapter = name.substr(plus + 1);
  }
  if (!base && options.any_name) base = slots.front().get();
  if (base) return variant(*base, adapter, make);
  std::vector<std::string> names;
  for (const auto& entry : options.models)
    names.push_back(entry.facts.model);
  auto list = join(names, ", ");
  if (name.empty())
    throw ApiError{
        400,
        fmt::format("model: expected one of {}.", printable(list, 400)),
        "model",
        "model_not_given"};
  throw ApiError{
      404,
      fmt::format(
          "The model \"{}\" is not served; expected {}{}.",
          printable(name),
          names.size() > 1 ? "one of " : "",
          printable(list, 400)),
      "model",
      "model_not_found"};
}

Models::Slot& Models::Core::variant(
    Slot& base,
    const std::string& adapter,
    bool make) {
  if (adapter.empty()) return base;
  const auto& known = options.adapters;
  if (std::find(known.begin(), known.end(), adapter) == known.end())
    throw ApiError{
        404,
        fmt::format(
            "The adapter \"{}\" is not served{}.",
            printable(adapter),
            known.empty()
                ? " (--adapters-dir)"
                : "; expected one of " + printable(join(known, ", "), 400)),
        "adapters",
        "adapter_not_found"};
  if (auto* slot = find(base.facts.model, adapter)) return *slot;
  if (!make) return base;
  auto slot = std::make_unique<Slot>();
  slot->facts = base.facts;
  slot->adapter = adapter;
  slot->bytes = base.bytes;
  slot->keep = options.keep_alive;
  slots.push_back(std::move(slot));
  return *slots.back();
}

// ---- using -----------------------------------------------------------------
class Models::Lease {
 public:
  Lease(std::shared_ptr<Core> core, Slot& slot, bool counts)
      : core_(std::move(core)), slot_(slot), counts_(counts) {}
  ~Lease() {
    std::lock_guard lock(core_->mutex);
    if (counts_) slot_.used = core_->options.now();
    if (--slot_.users > 0) return;
    core_->stirred = true;
    core_->changed.notify_all();
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

 private:
  const std::shared_ptr<Core> core_;
  Slot& slot_;
  const bool counts_; // as a use
};

// Under the lock.
EnginePtr Models::lease(
    const std::shared_ptr<Core>& core,
    Slot& slot,
    bool counts) {
  ++slot.users;
  if (counts) {
    slot.used = core->options.now();
    slot.turn = ++core->turns;
  }
  auto held = std::make_shared<Lease>(core, slot, counts);
  return {std::move(held), slot.engine.get()};
}

struct Models::Thread {
  std::thread thread;
};

Models::Models(ModelsOptions options)
    : core_(std::make_shared<Core>(std::move(options))),
      thread_(std::make_unique<Thread>()) {
  for (const auto& entry : core_->options.models) {
    auto slot = std::make_unique<Slot>();
    slot->facts = entry.facts;
    slot->aliases = entry.aliases;
    slot->stays = entry.stays;
    slot->bytes = entry.facts.bytes;
    slot->keep = entry.stays ? KeepAlive() : core_->options.keep_alive;
    core_->slots.push_back(std::move(slot));
  }
  MLXLM_CHECK(!core_->slots.empty(), "models");
  if (core_->options.thread) thread_->thread = std::thread([this] { run(); });
}

Models::~Models() {
  {
    std::lock_guard lock(core_->mutex);
    core_->closed = true;
    core_->changed.notify_all();
  }
  if (thread_->thread.joinable()) thread_->thread.join();
  std::unique_lock lock(core_->mutex);
  while (!core_->queue.empty()) {
    auto& slot = *core_->queue.front();
    core_->queue.erase(core_->queue.begin());
    end_loading(
        lock, slot, failure(503, "The server is shutting down.", "stopped", 1));
  }
}

ModelsPtr Models::of(EnginePtr engine, bool any_name) {
  ModelsOptions options;
  options.any_name = any_name;
  options.models.push_back({engine->facts(), {}, true});
  options.thread = false;
  auto out = std::make_shared<Models>(std::move(options));
  out->core_->slots.front()->engine = std::move(engine);
  return out;
}

Models::Taken Models::take(const ModelWish& wish, std::function<void()> wake) {
  std::lock_guard lock(core_->mutex);
  auto& slot = core_->wished(wish, true);
  if (wish.keep_alive) slot.keep = *wish.keep_alive;
  if (slot.engine) return {lease(core_, slot, true), nullptr};
  if (!slot.loading) {
    slot.loading = std::make_shared<Loading>();
    slot.wanted = core_->options.now();
    core_->queue.push_back(&slot);
    core_->stirred = true;
    core_->changed.notify_all();
  }
  if (wake) {
    std::lock_guard inner(slot.loading->mutex_);
    slot.loading->wakes_.push_back(std::move(wake));
  }
  return {nullptr, slot.loading};
}

EnginePtr Models::load(const ModelWish& wish) {
  auto told = std::make_shared<std::promise<void>>();
  auto taken = take(wish, [told] { told->set_value(); });
  if (taken.engine) return taken.engine;
  {
    std::lock_guard lock(taken.loading->mutex_);
    taken.loading->reported_ = true;
  }
  told->get_future().wait();
  return taken.loading->engine();
}

void Models::unload(const ModelWish& wish) {
  std::lock_guard lock(core_->mutex);
  auto& slot = core_->wished(wish, false);
  slot.keep = milliseconds(0);
  core_->stirred = true;
  core_->changed.notify_all();
}

// ---- looking ---------------------------------------------------------------
namespace {

template <typename Slot>
ModelState state_of(
    const Slot& slot,
    std::chrono::steady_clock::time_point now) {
  ModelState out{
      .facts = slot.facts,
      .adapter = slot.adapter,
      .aliases = slot.aliases,
      .loaded = slot.engine != nullptr,
      .users = slot.users,
      .bytes = slot.bytes};
  if (slot.keep) {
    auto since = slot.users > 0
        ? milliseconds(0)
        : std::chrono::duration_cast<milliseconds>(now - slot.used);
    out.left = std::max(milliseconds(0), *slot.keep - since);
  }
  return out;
}

} // namespace

std::vector<ModelState> Models::states() const {
  std::lock_guard lock(core_->mutex);
  std::vector<ModelState> out;
  for (const auto& slot : core_->slots)
    if (slot->adapter.empty() || slot->engine)
      out.push_back(state_of(*slot, core_->options.now()));
  return out;
}

ModelState Models::state(const ModelWish& wish) const {
  std::lock_guard lock(core_->mutex);
  return state_of(core_->wished(wish, false), core_->options.now());
}

std::vector<EnginePtr> Models::loaded() const {
  std::lock_guard lock(core_->mutex);
  std::vector<EnginePtr> out;
  for (const auto& slot : core_->slots)
    if (slot->engine) out.push_back(lease(core_, *slot, false));
  return out;
}

std::size_t Models::budget() const {
  return core_->options.memory ? core_->options.budget : 0;
}

// ---- working ---------------------------------------------------------------
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
  slot.engine = nullptr;
  slot.ticket.reset();
  slot.keep = slot.stays ? KeepAlive() : core_->options.keep_alive;
  lock.unlock();
  engine.reset();
  if (ticket) core_->options.memory->end(*ticket);
  lock.lock();
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
        ? failure(
              503,
              sizes + ", and others use too much of it now.",
              "insufficient_memory",
              5)
        : failure(503, sizes + ".", "insufficient_memory");
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
      static_cast<std::int64_t>(slot.bytes),
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
  lock.unlock();
  try {
    engine = core_->options.load(facts, adapter);
  } catch (const std::exception& what) {
    error = std::current_exception();
    std::lock_guard inner(slot.loading->mutex_);
    if (!slot.loading->reported_)
      core_->say(fmt::format("{}: {}", name, what.what()));
  } catch (const ApiError&) {
    error = std::current_exception();
  }
  std::size_t weights = 0;
  if (engine) weights = engine->memory().weights;
  lock.lock();
  if (weights > 0) slot.bytes = weights;
  if (engine) return settle(lock, slot, std::move(engine));
  if (auto ticket = std::exchange(slot.ticket, std::nullopt))
    core_->options.memory->end(*ticket);
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
  auto error = failure(
      503, core_->sizes(slot) + ".", "insufficient_memory", never ? 0 : 5);
  end_loading(lock, slot, error);
}

// Tells everybody who waits; the lock is let go meanwhile.
void Models::end_loading(
    std::unique_lock<std::mutex>& lock,
    Slot& slot,
    std::exception_ptr error) {
  auto loading = std::exchange(slot.loading, nullptr);
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
  loading.reset(); // may be the last that kept it
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

#include "serve/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <utility>

#include "core/check.h"
#include "serve/models_core.h"

namespace mlxlm::serve {
namespace {

using std::chrono::milliseconds;

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

std::exception_ptr Loading::error() const {
  std::lock_guard lock(mutex_);
  return error_;
}

// ---- what is kept ----------------------------------------------------------
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
  slot->below = &base;
  slot->keep = options.keep_alive;
  slots.push_back(std::move(slot));
  return *slots.back();
}

// ---- using -----------------------------------------------------------------
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
  // What adapters hold of the table would keep it for ever.
  std::vector<EnginePtr> held;
  for (auto& slot : core_->slots)
    held.push_back(std::move(slot->base));
  lock.unlock();
  held.clear();
  lock.lock();
  while (!core_->queue.empty()) {
    auto& slot = *core_->queue.front();
    core_->queue.erase(core_->queue.begin());
    end_loading(
        lock,
        slot,
        load_failure(503, "The server is shutting down.", "stopped", 1));
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
    core_->want(slot);
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

} // namespace mlxlm::serve

// What the table of models is inside, for models.cpp and models_work.cpp.
#pragma once

#include <fmt/format.h>

#include <condition_variable>
#include <thread>

#include "core/strings.h"
#include "serve/models.h"

namespace mlxlm::serve {

// Why a model is not there.
inline std::exception_ptr load_failure(
    int status,
    std::string message,
    std::string code,
    int retry_after = 0) {
  return std::make_exception_ptr(ApiError{
      status, std::move(message), "model", std::move(code), retry_after});
}

// A model, or a model with an adapter.
struct Models::Slot {
  EngineFacts facts;
  std::string adapter;
  std::vector<std::string> aliases;
  bool stays = false;
  std::size_t bytes = 0; // that it takes; learned when it is loaded
  EnginePtr engine; // null: not loaded
  // With an adapter: the model it is for, and a lease that keeps it loaded.
  Slot* below = nullptr;
  EnginePtr base;
  std::optional<WiredTicket> ticket;
  LoadingPtr loading; // wanted
  LoadingPtr awaited; // of the model below, that this one has asked for
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
  void want(Slot& slot) {
    slot.loading = std::make_shared<Loading>();
    slot.wanted = options.now();
    queue.push_back(&slot);
  }
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

struct Models::Thread {
  std::thread thread;
};

} // namespace mlxlm::serve

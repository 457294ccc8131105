// The models of a server: which there are, which are loaded, who uses them,
// and which goes when there is no room for another. Pure but for its thread:
// loading is a function, time is a clock, memory is the ledger's.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mlxlm/wired_memory.h"
#include "serve/engine.h"
#include "serve/errors.h"
#include "serve/keep_alive.h"

namespace mlxlm::serve {

struct ModelEntry {
  EngineFacts facts; // as the headers of its files tell
  std::vector<std::string> aliases = {};
  bool stays = false; // is not unloaded for being idle
};

// What a request asks for.
struct ModelWish {
  std::string model; // a name, or empty: the first
  std::string adapter = {}; // a name, or empty: none
  std::optional<KeepAlive> keep_alive = {}; // nothing: as it was
};

struct ModelsOptions {
  std::vector<ModelEntry> models;
  // Whether requests that name none get the first.
  bool first_is_default = true;
  bool any_name = false; // unknown names are the first, too
  std::vector<std::string> adapters = {};
  // Called on the table's thread, one at a time. Throws for what cannot be
  // loaded. With an adapter: `base` is the model it is for, loaded.
  std::function<EnginePtr(
      const EngineFacts&,
      const std::string& adapter,
      const EnginePtr& base)>
      load = {};
  // Weights are reserved here, in the group in which sequences take their
  // memory; null: there is no budget.
  WiredMemoryPtr memory = {};
  WiredPolicyPtr group = {};
  std::size_t budget = 0; // bytes of the group
  KeepAlive keep_alive = std::chrono::minutes(5);
  // For models in use to be let go, where there is no room.
  std::chrono::milliseconds patience = std::chrono::seconds(30);
  std::function<std::chrono::steady_clock::time_point()> now =
      std::chrono::steady_clock::now;
  std::function<void(const std::string&)> log = {};
  bool thread = true; // false: somebody calls work()
};

// A model on its way into memory, for all who wait for it.
class Loading {
 public:
  bool over() const;
  // Once it is over: keeps the model loaded; throws what went wrong, an
  // ApiError or what the load threw.
  EnginePtr engine() const;
  std::exception_ptr error() const; // null: none, or not over

 private:
  friend class Models;
  mutable std::mutex mutex_;
  bool over_ = false;
  bool reported_ = false; // somebody else tells why it failed
  EnginePtr engine_;
  std::exception_ptr error_;
  std::vector<std::function<void()>> wakes_;
};
using LoadingPtr = std::shared_ptr<Loading>;

struct ModelState {
  EngineFacts facts;
  std::string adapter;
  std::vector<std::string> aliases;
  bool loaded = false;
  int users = 0;
  std::size_t bytes = 0; // that it takes
  // Until it is unloaded unless somebody uses it; nothing: it stays.
  std::optional<std::chrono::milliseconds> left;
};

class Models {
 public:
  explicit Models(ModelsOptions options);
  // Answers that still run keep their models.
  ~Models();
  // One that is loaded and stays.
  static std::shared_ptr<Models> of(EnginePtr engine, bool any_name = false);

  // An engine that is kept loaded for as long as somebody holds it; or, where
  // it has to be loaded, null and its loading: `wake` is called when that is
  // over. Throws ApiError 404.
  struct Taken {
    EnginePtr engine;
    LoadingPtr loading;
  };
  Taken take(const ModelWish& wish, std::function<void()> wake);
  // Loads it here and now. Throws what load throws.
  EnginePtr load(const ModelWish& wish);
  // Unloads it as soon as nobody uses it.
  void unload(const ModelWish& wish);

  // Every model, and those with adapters that are loaded.
  std::vector<ModelState> states() const;
  // Of one, loaded or not. Throws ApiError 404.
  ModelState state(const ModelWish& wish) const;
  // Those that are loaded. Looking at them is no use of them.
  std::vector<EnginePtr> loaded() const;
  std::size_t budget() const;

  // Does what is due: loads what is wanted, unloads what was idle for long
  // enough. Returns when to look again, at the latest.
  using Clock = std::chrono::steady_clock;
  Clock::time_point work();

 private:
  struct Slot;
  struct Core;
  class Lease;
  static EnginePtr lease(
      const std::shared_ptr<Core>& core,
      Slot& slot,
      bool counts);
  bool load_next(std::unique_lock<std::mutex>& lock, Clock::time_point& next);
  void load_slot(std::unique_lock<std::mutex>& lock, Slot& slot);
  enum class Base { there, awaited, failed };
  Base want_base(Slot& slot);
  enum class Room { there, busy, never };
  Room make_room(std::unique_lock<std::mutex>& lock, Slot& slot);
  void settle(std::unique_lock<std::mutex>& lock, Slot& slot, EnginePtr engine);
  void put_away(std::unique_lock<std::mutex>& lock, Slot& slot);
  void end_loading(
      std::unique_lock<std::mutex>& lock,
      Slot& slot,
      std::exception_ptr error);
  void run();

  const std::shared_ptr<Core> core_;
  struct Thread;
  std::unique_ptr<Thread> thread_;
};
using ModelsPtr = std::shared_ptr<Models>;

} // namespace mlxlm::serve

// One budget for the memory that models, sequences and caches take: tickets,
// policies that admit them, and on Metal the limit up to which memory is wired.
//
//   auto wired = wired_memory();
//   auto ticket = make_ticket(bytes, sum_policy(std::int64_t{12} << 30));
//   {
//     WiredHold hold(wired, ticket);  // waits until the bytes are free
//     ...                             // work
//   }                                 // ended, whatever happened
//
// All sizes and limits are bytes. Names and rules are mlx-swift's
// (WiredMemoryManager); waiting is first come, first served.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

// ---- policies --------------------------------------------------------------
// What a policy is asked about: the tickets of its group, nobody else's.
struct WiredDemand {
  std::int64_t baseline = 0; // the limit before anything was started
  // What the device recommends to use at most, where it says so (Metal).
  std::optional<std::int64_t> recommended = {};
  std::vector<std::int64_t> sizes = {}; // of active tickets and reservations
};

// Pure: the same question gets the same answer. Called under the manager's
// lock, so it must not call the manager.
class WiredPolicy {
 public:
  virtual ~WiredPolicy() = default;
  // Tickets whose policies have the same id form a group.
  virtual std::string id() const = 0;
  // The limit that the group wants; the largest of all groups is applied.
  virtual std::int64_t limit(const WiredDemand& demand) const = 0;
  // Whether a ticket of `size` may join.
  virtual bool can_admit(const WiredDemand& demand, std::int64_t size) const;
};
using WiredPolicyPtr = std::shared_ptr<const WiredPolicy>;

// baseline + sum of sizes, at most `cap`, else what the device recommends.
// Admits what stays within that.
WiredPolicyPtr sum_policy(std::optional<std::int64_t> cap = {});
// max(baseline, largest size). Admits everything.
WiredPolicyPtr max_policy();
// Always `bytes`. Admits everything.
WiredPolicyPtr fixed_policy(std::int64_t bytes);

struct WiredBudget {
  std::int64_t base_bytes = 0; // weights, workspace: measured, see inspect
  std::int64_t kv_cache_bytes = 0; // kept apart so that reports can name it
  std::optional<std::int64_t> cap = {};
  std::string id = {}; // empty: a group of its own
};
// baseline + base_bytes + kv_cache_bytes + sum of sizes; clamped and admitted
// as by sum_policy.
WiredPolicyPtr budget_policy(const WiredBudget& budget);

// ---- tickets ---------------------------------------------------------------
enum class WiredKind {
  active, // work: raises the limit
  reservation, // counts for admission, but raises no limit by itself (weights)
};

// A demand for memory. A value: copies are the same ticket.
struct WiredTicket {
  std::uint64_t id = 0;
  std::int64_t size = 0; // less than 0 counts as 0
  WiredPolicyPtr policy; // never null
  WiredKind kind = WiredKind::active;
};
// A new one, with an id of its own.
WiredTicket make_ticket(
    std::int64_t size,
    WiredPolicyPtr policy,
    WiredKind kind = WiredKind::active);

// ---- events ----------------------------------------------------------------
struct WiredEvent {
  enum class Kind : std::uint8_t {
    baseline_captured,
    admission_wait,
    admission_granted,
    admission_cancelled,
    ticket_started,
    ticket_start_ignored, // started or waiting already
    ticket_ended,
    ticket_end_ignored, // not active
    limit_computed,
    limit_applied,
    limit_apply_failed,
    baseline_restored,
  };
  std::uint64_t sequence = 0; // counts from 1
  std::chrono::steady_clock::time_point time;
  Kind kind = Kind::baseline_captured;
  std::optional<std::uint64_t> ticket = {};
  std::optional<std::int64_t> size = {};
  std::string policy = {}; // its id, shortened to 47 characters; may be empty
  std::optional<std::int64_t> baseline = {}, desired_limit = {},
                              applied_limit = {};
  int active = 0; // tickets of both kinds that have started
  int waiting = 0;
};
std::string_view to_string(WiredEvent::Kind kind); // "admission_wait"

// One reader's place in the stream. Reading never delays who takes tickets; a
// reader that falls more than 1,024 events behind loses the oldest.
class WiredEvents {
 public:
  virtual ~WiredEvents() = default;
  virtual std::optional<WiredEvent> next() = 0; // nothing: none yet
  virtual std::uint64_t missed() const = 0; // lost so far
};

// ---- the manager -----------------------------------------------------------
struct WiredSettings {
  // While work is active the limit shrinks only by at least this part of it...
  double shrink_threshold_ratio = 0.25;
  // ... and no sooner than this after the last change.
  double shrink_cooldown = 1.0; // seconds
  // Admit by policy where the device has no wired limit. Without it tickets do
  // nothing there.
  bool policy_only_when_unsupported = true;
  std::optional<std::int64_t> baseline_override = {};
  bool use_recommended_working_set_when_unsupported = true;
};

struct WiredStart {
  enum class Outcome {
    started,
    waiting, // not yet: start_async only
    ignored, // had been started, or waits already
    cancelled, // by cancel or end, before it was admitted
    expired, // the deadline passed first
    unsupported, // nothing to do on this device
  };
  Outcome outcome = Outcome::started;
  std::int64_t limit = 0; // as applied now
};

struct WiredStatus {
  std::int64_t limit = 0, baseline = 0;
  int active = 0, reservations = 0, waiting = 0; // tickets
  std::int64_t active_bytes = 0, reserved_bytes = 0;
};

// Safe from any thread. The wired limit is one for the whole process: use one
// manager, wired_memory().
class WiredMemory {
 public:
  using Deadline = std::optional<std::chrono::steady_clock::time_point>;

  virtual ~WiredMemory() = default;

  // Waits until the policy admits the ticket, then registers it. Tickets of one
  // group are admitted in the order they came; one that would not fit even if
  // all active tickets ended keeps nobody from passing.
  virtual WiredStart start(
      const WiredTicket& ticket,
      Deadline deadline = {}) = 0;
  // Does not wait: `waiting` means that `done` will be told of the start (or
  // of being cancelled) later. `done` is called under the manager's lock: it
  // must be short and must not call the manager. After cancel or end it is not
  // called any more.
  virtual WiredStart start_async(
      const WiredTicket& ticket,
      std::function<void(const WiredStart&)> done) = 0;
  // Changes the size of a started ticket. Growing asks the policy and passes
  // those that wait; false: no room, nothing has changed.
  virtual bool resize(const WiredTicket& ticket, std::int64_t size) = 0;
  // Gives back; the limit as applied then. A second call does nothing.
  virtual std::int64_t end(const WiredTicket& ticket) = 0;
  // Ends only the waiting; nothing when it does not wait.
  virtual void cancel(const WiredTicket& ticket) = 0;
  // Whether it would be admitted if all active tickets had ended.
  virtual bool could_fit(const WiredTicket& ticket) const = 0;

  // Throws Error(request) while a ticket is active or waits.
  virtual void configure(const WiredSettings& settings) = 0;
  virtual WiredStatus status() const = 0;
  // From now on.
  virtual std::unique_ptr<WiredEvents> events() const = 0;
};
using WiredMemoryPtr = std::shared_ptr<WiredMemory>;

// The process's manager.
WiredMemoryPtr wired_memory();

// Starts a ticket and ends it exactly once. Throws Error(resource) when it was
// cancelled or the deadline passed.
class WiredHold {
 public:
  WiredHold(
      WiredMemoryPtr manager,
      WiredTicket ticket,
      WiredMemory::Deadline deadline = {});
  ~WiredHold();
  WiredHold(const WiredHold&) = delete;
  WiredHold& operator=(const WiredHold&) = delete;

 private:
  WiredMemoryPtr manager_;
  WiredTicket ticket_;
  bool ends_ = false; // not what somebody else has started
};

// ---- the array engine's own limits -----------------------------------------

// What MLX holds. Weights that CPU kernels own are not part of it; see
// ModelContainer::memory.
struct ArrayMemory {
  std::size_t active = 0; // in arrays now
  std::size_t peak = 0; // since the start or reset_peak_memory
  std::size_t cache = 0; // kept for reuse
  std::size_t memory_limit = 0; // a guideline; a CPU refuses nothing
};
ArrayMemory array_memory();
void reset_peak_memory();
// Each returns the limit before. A cache limit of 0 keeps nothing.
std::size_t set_memory_limit(std::size_t bytes);
std::size_t set_cache_limit(std::size_t bytes);
void clear_cache();

} // namespace mlxlm

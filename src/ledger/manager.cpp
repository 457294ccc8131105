// The manager of tickets: who is admitted, who waits, what limit follows.
#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <set>

#include "core/check.h"
#include "core/strings.h"
#include "ledger/event_log.h"
#include "ledger/limit_keeper.h"

namespace mlxlm {
namespace {

using Kind = WiredEvent::Kind;
using Outcome = WiredStart::Outcome;

class Manager final : public WiredMemory {
 public:
  Manager(std::shared_ptr<WiredBackend> backend, const WiredSettings& settings)
      : backend_(std::move(backend)),
        limit_(backend_, settings_, [this](WiredEvent event) {
          emit(std::move(event));
        }) {
    set(settings);
  }

  WiredStart start(const WiredTicket& ticket, Deadline deadline) override {
    std::unique_lock lock(mutex_);
    std::optional<WiredStart> result;
    auto first = enter(ticket, [&](const WiredStart& told) {
      result = told;
      granted_.notify_all();
    });
    if (first.outcome != Outcome::waiting) return first;
    auto told = [&] { return result.has_value(); };
    if (!deadline) {
      granted_.wait(lock, told);
    } else if (!granted_.wait_until(lock, *deadline, told)) {
      leave(ticket.id, Outcome::expired);
    }
    return *result;
  }

  WiredStart start_async(
      const WiredTicket& ticket,
      std::function<void(const WiredStart&)> done) override {
    std::lock_guard lock(mutex_);
    return enter(ticket, std::move(done));
  }

  bool resize(const WiredTicket& ticket, std::int64_t size) override {
    std::lock_guard lock(mutex_);
    auto it = tickets_.find(ticket.id);
    if (it == tickets_.end()) return !active_on_device();
    auto& held = it->second;
    size = std::max<std::int64_t>(0, size);
    auto old = held.size;
    if (size > old) {
      held.size = 0; // asked anew, as a whole
      bool fits = held.policy->can_admit(demand(held.policy->id()), size);
      if (!fits) {
        held.size = old;
        return false;
      }
    }
    held.size = size;
    recompute();
    if (size < old) admit_waiting();
    return true;
  }

  std::int64_t end(const WiredTicket& ticket) override {
    std::lock_guard lock(mutex_);
    if (!active_on_device()) return limit_.limit();
    if (leave(ticket.id, Outcome::cancelled)) return limit_.limit();
    auto it = tickets_.find(ticket.id);
    if (it == tickets_.end()) {
      emit(Kind::ticket_end_ignored, &ticket);
      return limit_.limit();
    }
    auto ended = std::move(it->second);
    tickets_.erase(it);
    emit(Kind::ticket_ended, &ended);
    if (tickets_.empty()) {
      auto baseline = limit_.finish();
      admit_waiting();
      return baseline;
    }
    recompute();
    admit_waiting();
    return limit_.limit();
  }

  void cancel(const WiredTicket& ticket) override {
    std::lock_guard lock(mutex_);
    leave(ticket.id, Outcome::cancelled);
  }

  bool could_fit(const WiredTicket& ticket) const override {
    std::lock_guard lock(mutex_);
    return fits_alone(ticket);
  }

  void configure(const WiredSettings& settings) override {
    std::lock_guard lock(mutex_);
    if (work_active() || !waiting_.empty())
      fail(
          ErrorKind::request,
          "wired memory",
          "expected no work while settings change, found {} active and {} "
          "waiting tickets",
          tickets_.size(),
          waiting_.size());
    set(settings);
  }

  WiredStatus status() const override {
    std::lock_guard lock(mutex_);
    WiredStatus status;
    status.limit = limit_.limit();
    status.baseline = limit_.known_baseline().value_or(0);
    status.waiting = static_cast<int>(waiting_.size());
    for (const auto& [id, ticket] : tickets_) {
      bool active = ticket.kind == WiredKind::active;
      ++(active ? status.active : status.reservations);
      (active ? status.active_bytes : status.reserved_bytes) += ticket.size;
    }
    return status;
  }

  std::unique_ptr<WiredEvents> events() const override {
    return log_->reader();
  }

 private:
  struct Waiting {
    WiredTicket ticket;
    std::function<void(const WiredStart&)> done;
  };

  void set(WiredSettings settings) {
    settings.shrink_threshold_ratio =
        std::clamp(settings.shrink_threshold_ratio, 0.0, 1.0);
    settings.shrink_cooldown = std::max(settings.shrink_cooldown, 0.0);
    settings_ = settings;
  }

  bool active_on_device() const {
    return backend_->supported() || settings_.policy_only_when_unsupported;
  }

  bool work_active() const {
    return std::any_of(tickets_.begin(), tickets_.end(), [](const auto& held) {
      return held.second.kind == WiredKind::active;
    });
  }

  WiredDemand demand(const std::string& group, bool reservations_only = false)
      const {
    WiredDemand demand;
    demand.baseline = limit_.known_baseline().value_or(limit_.resolve());
    demand.recommended = backend_->recommended_working_set();
    for (const auto& [id, ticket] : tickets_) {
      bool counts = !reservations_only || ticket.kind != WiredKind::active;
      if (counts && ticket.policy->id() == group)
        demand.sizes.push_back(ticket.size);
    }
    return demand;
  }

  bool fits_alone(const WiredTicket& ticket) const {
    auto alone = demand(ticket.policy->id(), true);
    return ticket.policy->can_admit(
        alone, std::max<std::int64_t>(0, ticket.size));
  }

  // Queues the ticket and admits whoever can be; `done` is kept only when it
  // has to wait.
  WiredStart enter(
      WiredTicket ticket,
      std::function<void(const WiredStart&)> done) {
    MLXLM_CHECK(ticket.policy != nullptr, "a ticket without a policy");
    if (!active_on_device()) return {Outcome::unsupported, limit_.limit()};
    ticket.size = std::max<std::int64_t>(0, ticket.size);
    limit_.baseline(work_active());
    if (tickets_.count(ticket.id) || find(ticket.id) != waiting_.end()) {
      emit(Kind::ticket_start_ignored, &ticket);
      return {Outcome::ignored, limit_.limit()};
    }
    auto id = ticket.id;
    waiting_.push_back({std::move(ticket), nullptr});
    admit_waiting();
    auto waits = find(id);
    if (waits == waiting_.end()) return {Outcome::started, limit_.limit()};
    waits->done = std::move(done);
    emit(Kind::admission_wait, &waits->ticket);
    return {Outcome::waiting, limit_.limit()};
  }

  // In the order they came, each group for itself. A ticket that could not be
  // admitted even alone does not hold up those behind it.
  void admit_waiting() {
    std::set<std::string> held_up;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      auto current = it++;
      const auto& ticket = current->ticket;
      auto group = ticket.policy->id();
      if (held_up.count(group)) continue;
      limit_.baseline(work_active());
      if (!ticket.policy->can_admit(demand(group), ticket.size)) {
        if (fits_alone(ticket)) held_up.insert(group);
        continue;
      }
      auto admitted = std::move(*current);
      waiting_.erase(current);
      begin(admitted);
    }
  }

  void begin(const Waiting& admitted) {
    const auto& ticket = admitted.ticket;
    emit(Kind::admission_granted, &ticket);
    tickets_[ticket.id] = ticket;
    emit(Kind::ticket_started, &ticket);
    recompute();
    if (admitted.done) admitted.done({Outcome::started, limit_.limit()});
  }

  std::list<Waiting>::iterator find(std::uint64_t id) {
    return std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& w) {
      return w.ticket.id == id;
    });
  }

  // False: it does not wait. Those behind it may now be admitted.
  bool leave(std::uint64_t id, Outcome outcome) {
    auto it = find(id);
    if (it == waiting_.end()) return false;
    auto left = std::move(*it);
    waiting_.erase(it);
    emit(Kind::admission_cancelled, &left.ticket);
    if (left.done) left.done({outcome, limit_.limit()});
    admit_waiting();
    return true;
  }

  // The largest limit of all groups, where anybody works.
  void recompute() {
    if (!work_active()) return limit_.restore();
    std::map<std::string, WiredPolicyPtr> groups;
    for (const auto& [id, ticket] : tickets_)
      groups[ticket.policy->id()] = ticket.policy;
    std::optional<std::int64_t> desired;
    for (const auto& [id, policy] : groups) {
      auto limit = policy->limit(demand(id));
      desired = desired ? std::max(*desired, limit) : limit;
    }
    limit_.apply_while_active(*desired);
  }

  void emit(WiredEvent event) {
    event.time = backend_->now();
    event.active = static_cast<int>(tickets_.size());
    event.waiting = static_cast<int>(waiting_.size());
    log_->add(event);
  }

  void emit(Kind kind, const WiredTicket* ticket) {
    WiredEvent event;
    event.kind = kind;
    event.ticket = ticket->id;
    event.size = ticket->size;
    event.policy = ticket->policy->id();
    event.baseline = limit_.known_baseline();
    emit(std::move(event));
  }

  std::shared_ptr<WiredBackend> backend_;
  WiredSettings settings_;
  std::shared_ptr<EventLog> log_ = std::make_shared<EventLog>();
  mutable std::mutex mutex_;
  std::condition_variable granted_;
  std::map<std::uint64_t, WiredTicket> tickets_; // started ones
  std::list<Waiting> waiting_; // in the order they came
  LimitKeeper limit_;
};

} // namespace

WiredMemoryPtr make_wired_memory(
    std::shared_ptr<WiredBackend> backend,
    const WiredSettings& settings) {
  return std::make_shared<Manager>(std::move(backend), settings);
}

WiredHold::WiredHold(
    WiredMemoryPtr manager,
    WiredTicket ticket,
    WiredMemory::Deadline deadline)
    : manager_(std::move(manager)), ticket_(std::move(ticket)) {
  auto outcome = manager_->start(ticket_, deadline).outcome;
  ends_ = outcome == Outcome::started;
  if (outcome != Outcome::cancelled && outcome != Outcome::expired) return;
  fail(
      ErrorKind::resource,
      "memory",
      "expected {} to become free, found {}",
      human_bytes(
          static_cast<std::size_t>(std::max<std::int64_t>(0, ticket_.size))),
      outcome == Outcome::cancelled ? "the wait cancelled"
                                    : "none until the deadline");
}

WiredHold::~WiredHold() {
  if (ends_) manager_->end(ticket_);
}

} // namespace mlxlm

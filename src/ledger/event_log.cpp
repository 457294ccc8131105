#include "ledger/event_log.h"

#include <algorithm>

namespace mlxlm {

EventLog::Record EventLog::pack(const WiredEvent& event) {
  Record r{};
  r.time = event.time.time_since_epoch().count();
  int bit = 0;
  auto keep = [&](auto& to, const auto& from) {
    if (from) {
      to = *from;
      r.known |= 1 << bit;
    }
    ++bit;
  };
  keep(r.ticket, event.ticket);
  keep(r.size, event.size);
  keep(r.baseline, event.baseline);
  keep(r.desired, event.desired_limit);
  keep(r.applied, event.applied_limit);
  r.active = event.active;
  r.waiting = event.waiting;
  r.kind = static_cast<std::uint8_t>(event.kind);
  event.policy.copy(r.policy, label - 1);
  return r;
}

WiredEvent EventLog::unpack(const Record& r, std::uint64_t number) {
  using Clock = std::chrono::steady_clock;
  WiredEvent event;
  event.sequence = number;
  event.time = Clock::time_point(Clock::duration(r.time));
  event.kind = static_cast<WiredEvent::Kind>(r.kind);
  int bit = 0;
  auto take = [&](auto& to, const auto& from) {
    if (r.known >> bit++ & 1) to = from;
  };
  take(event.ticket, r.ticket);
  take(event.size, r.size);
  take(event.baseline, r.baseline);
  take(event.desired_limit, r.desired);
  take(event.applied_limit, r.applied);
  event.policy = r.policy;
  event.active = r.active;
  event.waiting = r.waiting;
  return event;
}

void EventLog::add(const WiredEvent& event) {
  ring_.push(pack(event));
}

class EventLog::Reader final : public WiredEvents {
 public:
  explicit Reader(std::shared_ptr<const EventLog> log)
      : log_(std::move(log)), next_(log_->ring_.last() + 1) {}

  std::optional<WiredEvent> next() override {
    Record record;
    for (;;) {
      auto last = log_->ring_.last();
      if (next_ > last) return std::nullopt;
      if (last - next_ < kept && log_->ring_.read(next_, record))
        return unpack(record, next_++);
      // Written over: on with the oldest that is still there.
      auto oldest = std::max(next_ + 1, last < kept ? 1 : last - kept + 1);
      missed_ += oldest - next_;
      next_ = oldest;
    }
  }
  std::uint64_t missed() const override {
    return missed_;
  }

 private:
  std::shared_ptr<const EventLog> log_;
  std::uint64_t next_, missed_ = 0;
};

std::unique_ptr<WiredEvents> EventLog::reader() const {
  return std::make_unique<Reader>(shared_from_this());
}

std::string_view to_string(WiredEvent::Kind kind) {
  static constexpr std::string_view names[] = {
      "baseline_captured",
      "admission_wait",
      "admission_granted",
      "admission_cancelled",
      "ticket_started",
      "ticket_start_ignored",
      "ticket_ended",
      "ticket_end_ignored",
      "limit_computed",
      "limit_applied",
      "limit_apply_failed",
      "baseline_restored"};
  return names[static_cast<std::size_t>(kind)];
}

} // namespace mlxlm

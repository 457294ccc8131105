// The manager's events as the ring keeps them, and readers of it.
#pragma once

#include <memory>

#include "ledger/event_ring.h"
#include "mlxlm/wired_memory.h"

namespace mlxlm {

class EventLog : public std::enable_shared_from_this<EventLog> {
 public:
  // One caller at a time; numbers the event.
  void add(const WiredEvent& event);
  std::unique_ptr<WiredEvents> reader() const;

 private:
  static constexpr std::size_t kept = 1024;
  static constexpr std::size_t label = 48; // with the ending zero
  // WiredEvent without pointers.
  struct Record {
    std::int64_t time; // steady clock ticks
    std::uint64_t ticket;
    std::int64_t size, baseline, desired, applied;
    std::int32_t active, waiting;
    std::uint8_t kind;
    std::uint8_t known; // a bit each: ticket, size, baseline, desired, applied
    char policy[label];
  };
  static Record pack(const WiredEvent& event);
  static WiredEvent unpack(const Record& record, std::uint64_t number);

  class Reader;
  EventRing<Record, kept> ring_;
};

} // namespace mlxlm

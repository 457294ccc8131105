// Memory tickets of one engine's requests: which may start, which may grow.
// Only for the engine's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "mlxlm/wired_memory.h"

namespace mlxlm {

// What sequences may take together.
struct SequenceBudget {
  WiredMemoryPtr wired; // null: no limit
  WiredPolicyPtr policy; // of the tickets
  std::size_t most = 0; // bytes of one that is alone
  // Most bytes that a sequence of so many tokens takes on its way there.
  std::function<std::size_t(int tokens)> bytes_for;
};

// A group of its own in which weights and sequences take at most `cap` bytes
// together. The limit it asks for is the baseline and what they take, as far as
// the device recommends.
WiredPolicyPtr engine_policy(std::int64_t cap);

class Admission {
 public:
  // `wake` is called from any thread when a request that had to wait may
  // start; it must be short.
  Admission(SequenceBudget budget, std::function<void()> wake);
  // Gives everything back.
  ~Admission();

  // Why a sequence of so many tokens will never fit; nothing when it can.
  std::optional<std::string> refusal(int tokens) const;
  // Whether the next request may start. If not its ticket waits; ask again
  // after `wake`. Only one waits at a time.
  bool take(std::uint64_t id, int tokens);
  // Whether one that runs may become so long.
  bool grow(std::uint64_t id, int tokens);
  void give_back(std::uint64_t id);
  // Nobody waits any more, so that those who run come first.
  void withdraw();

 private:
  std::int64_t bytes_for(int tokens) const;

  SequenceBudget budget_;
  std::function<void()> wake_;
  std::map<std::uint64_t, WiredTicket> tickets_;
  std::optional<std::uint64_t> waiting_;
  std::atomic<bool> granted_{false}; // to the one that waits
};

} // namespace mlxlm

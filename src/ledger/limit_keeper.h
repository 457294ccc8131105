// The one limit of the process: what it was before anything started, what is
// applied now, and when it may shrink. Not safe from several threads.
#pragma once

#include <functional>
#include <memory>

#include "ledger/backend.h"

namespace mlxlm {

class LimitKeeper {
 public:
  using Emit = std::function<void(WiredEvent)>;
  LimitKeeper(
      std::shared_ptr<WiredBackend> backend,
      const WiredSettings& settings,
      Emit emit);

  // What holds before and between work. Read again when nothing is known yet
  // or no work is active, as something else may have set it.
  std::int64_t baseline(bool work_active);
  std::int64_t resolve() const; // what baseline() would read
  // Grows to `desired` at once; shrinks by the settings' rules.
  void apply_while_active(std::int64_t desired);
  // Back to the baseline, now.
  void restore();
  // The same, and forgets it: the last ticket has ended. Returns it.
  std::int64_t finish();

  std::int64_t limit() const {
    return limit_ ? *limit_ : baseline_.value_or(0);
  }
  std::optional<std::int64_t> known_baseline() const {
    return baseline_;
  }

 private:
  bool may_shrink_to(std::int64_t limit) const;
  void apply(std::int64_t limit);
  void emit(WiredEvent::Kind kind, std::optional<std::int64_t> desired);

  std::shared_ptr<WiredBackend> backend_;
  const WiredSettings& settings_;
  Emit emit_;
  std::optional<std::int64_t> baseline_;
  std::optional<std::int64_t> limit_; // as last applied
  std::optional<std::chrono::steady_clock::time_point> changed_;
};

} // namespace mlxlm

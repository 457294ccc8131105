#include "ledger/limit_keeper.h"

#include <algorithm>

namespace mlxlm {

using Kind = WiredEvent::Kind;

LimitKeeper::LimitKeeper(
    std::shared_ptr<WiredBackend> backend,
    const WiredSettings& settings,
    Emit emit)
    : backend_(std::move(backend)),
      settings_(settings),
      emit_(std::move(emit)) {}

void LimitKeeper::emit(Kind kind, std::optional<std::int64_t> desired) {
  WiredEvent event;
  event.kind = kind;
  event.baseline = baseline_;
  event.desired_limit = desired;
  event.applied_limit = limit_;
  emit_(std::move(event));
}

std::int64_t LimitKeeper::resolve() const {
  if (settings_.baseline_override)
    return std::max<std::int64_t>(0, *settings_.baseline_override);
  if (limit_) return *limit_;
  if (!backend_->supported() &&
      settings_.use_recommended_working_set_when_unsupported)
    return backend_->recommended_working_set().value_or(0);
  return 0;
}

std::int64_t LimitKeeper::baseline(bool work_active) {
  if (baseline_ && work_active) return *baseline_;
  auto before = baseline_;
  baseline_ = resolve();
  if (before != baseline_) {
    WiredEvent event;
    event.kind = Kind::baseline_captured;
    event.baseline = event.applied_limit = baseline_;
    emit_(std::move(event));
  }
  return *baseline_;
}

bool LimitKeeper::may_shrink_to(std::int64_t limit) const {
  auto current = static_cast<double>(*limit_);
  auto drop = current - static_cast<double>(limit);
  if (drop < settings_.shrink_threshold_ratio * current) return false;
  if (!changed_) return true;
  std::chrono::duration<double> elapsed = backend_->now() - *changed_;
  return elapsed.count() >= settings_.shrink_cooldown;
}

void LimitKeeper::apply(std::int64_t limit) {
  if (backend_->supported() && (limit < 0 || !backend_->apply(limit)))
    return emit(Kind::limit_apply_failed, limit);
  limit_ = limit;
  changed_ = backend_->now();
  emit(Kind::limit_applied, limit);
}

void LimitKeeper::apply_while_active(std::int64_t desired) {
  emit(Kind::limit_computed, desired);
  if (limit_ == desired) return;
  if (limit_ && desired < *limit_ && !may_shrink_to(desired)) return;
  apply(desired);
}

void LimitKeeper::restore() {
  if (!baseline_ || limit_ == baseline_) return;
  apply(*baseline_);
  emit(Kind::baseline_restored, std::nullopt);
}

std::int64_t LimitKeeper::finish() {
  auto baseline = baseline_.value_or(0);
  if (limit_ != baseline) apply(baseline);
  emit(Kind::baseline_restored, std::nullopt);
  baseline_.reset();
  return baseline;
}

} // namespace mlxlm

#include "serve/gate.h"

#include <algorithm>
#include <tuple>

namespace mlxlm::serve {
namespace {

void count_down(std::map<std::string, int>& counts, const std::string& client) {
  auto found = counts.find(client);
  if (--found->second == 0) counts.erase(found);
}

int count_of(
    const std::map<std::string, int>& counts,
    const std::string& client) {
  auto found = counts.find(client);
  return found == counts.end() ? 0 : found->second;
}

} // namespace

Gate::Place::~Place() {
  gate_->leave(this);
}

bool Gate::Place::ready() const {
  std::lock_guard lock(gate_->mutex_);
  return ready_;
}

std::vector<Gate::PlacePtr> Gate::enter(
    const std::string& client,
    int count,
    int priority,
    const GateLimits& limits,
    std::function<void()> wake,
    std::string& reason) {
  std::vector<PlacePtr> places;
  std::vector<std::function<void()>> wakes;
  std::lock_guard lock(mutex_);
  slots_ = limits.slots;
  int free = std::max(0, slots_ - ready_);
  auto waiting = static_cast<std::int64_t>(waiting_.size());
  // Some of them may be ready at once.
  if (waiting + count - free > limits.queue) {
    reason = "queue";
    return places;
  }
  if (count_of(waiting_by_client_, client) + count - free >
      limits.queue_per_client) {
    reason = "queue_per_client";
    return places;
  }
  for (int i = 0; i < count; ++i) {
    places.push_back(
        std::make_unique<Place>(shared_from_this(), client, priority));
    auto* place = places.back().get();
    place->order_ = next_++;
    place->wake_ = wake;
    waiting_.push_back(place);
    ++waiting_by_client_[client];
  }
  grant(wakes); // whoever enters looks at once
  return places;
}

void Gate::grant(std::vector<std::function<void()>>& wakes) {
  while (ready_ < slots_ && !waiting_.empty()) {
    auto rank = [&](const Place* place) {
      return std::tuple(
          place->priority_,
          count_of(ready_by_client_, place->client_),
          place->order_);
    };
    auto best = waiting_.begin();
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it)
      if (rank(*it) < rank(*best)) best = it;
    auto* place = *best;
    waiting_.erase(best);
    count_down(waiting_by_client_, place->client_);
    place->ready_ = true;
    ++ready_;
    ++ready_by_client_[place->client_];
    wakes.push_back(place->wake_);
  }
}

void Gate::leave(Place* place) {
  std::vector<std::function<void()>> wakes;
  {
    std::lock_guard lock(mutex_);
    if (place->ready_) {
      --ready_;
      count_down(ready_by_client_, place->client_);
    } else {
      waiting_.remove(place);
      count_down(waiting_by_client_, place->client_);
    }
    grant(wakes);
  }
  for (const auto& wake : wakes)
    if (wake) wake();
}

int Gate::ready() const {
  std::lock_guard lock(mutex_);
  return ready_;
}

int Gate::places_of(const std::string& client) const {
  std::lock_guard lock(mutex_);
  return count_of(ready_by_client_, client) +
      count_of(waiting_by_client_, client);
}

int Gate::waiting() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(waiting_.size());
}

} // namespace mlxlm::serve

#include "generate/admission.h"

#include <algorithm>
#include <limits>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

namespace {

class EnginePolicy final : public WiredPolicy {
 public:
  explicit EnginePolicy(std::int64_t cap) : cap_(cap) {
    static std::atomic<int> last{0};
    id_ = fmt::format("engine {}", ++last);
  }
  std::string id() const override {
    return id_;
  }
  std::int64_t limit(const WiredDemand& demand) const override {
    return within_->limit(demand);
  }
  // The baseline is not of our group, and does not narrow it.
  bool can_admit(const WiredDemand& demand, std::int64_t size) const override {
    return within_cap_->can_admit({0, {}, demand.sizes}, size);
  }

 private:
  std::string id_;
  std::int64_t cap_;
  WiredPolicyPtr within_ = sum_policy(), within_cap_ = sum_policy(cap_);
};

} // namespace

WiredPolicyPtr engine_policy(std::int64_t cap) {
  return std::make_shared<EnginePolicy>(cap);
}

Admission::Admission(SequenceBudget budget, std::function<void()> wake)
    : budget_(std::move(budget)), wake_(std::move(wake)) {}

Admission::~Admission() {
  for (const auto& [id, ticket] : tickets_)
    budget_.wired->end(ticket);
}

std::int64_t Admission::bytes_for(int tokens) const {
  constexpr std::size_t most = std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(std::min(budget_.bytes_for(tokens), most));
}

std::optional<std::string> Admission::refusal(int tokens) const {
  if (!budget_.wired) return std::nullopt;
  auto bytes = bytes_for(tokens);
  if (budget_.wired->could_fit(make_ticket(bytes, budget_.policy)))
    return std::nullopt;
  return fmt::format(
      "expected a request within {} of sequence memory, found one of {}",
      human_bytes(budget_.most),
      human_bytes(static_cast<std::size_t>(bytes)));
}

bool Admission::take(std::uint64_t id, int tokens) {
  if (!budget_.wired) return true;
  if (waiting_ == id) {
    if (!granted_) return false;
    waiting_.reset();
    return true;
  }
  withdraw();
  auto ticket = make_ticket(bytes_for(tokens), budget_.policy);
  granted_ = false;
  auto start = budget_.wired->start_async(ticket, [this](const auto& told) {
    if (told.outcome != WiredStart::Outcome::started) return;
    granted_ = true;
    wake_();
  });
  tickets_.emplace(id, std::move(ticket));
  if (start.outcome != WiredStart::Outcome::waiting) return true;
  waiting_ = id;
  return false;
}

bool Admission::grow(std::uint64_t id, int tokens) {
  if (!budget_.wired) return true;
  return budget_.wired->resize(tickets_.at(id), bytes_for(tokens));
}

void Admission::give_back(std::uint64_t id) {
  if (waiting_ == id) waiting_.reset();
  auto it = tickets_.find(id);
  if (it == tickets_.end()) return;
  budget_.wired->end(it->second);
  tickets_.erase(it);
}

void Admission::withdraw() {
  if (waiting_) give_back(*waiting_);
}

} // namespace mlxlm

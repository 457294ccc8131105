// The policies of mlx-swift-lm. Sums stop at the largest number instead of
// wrapping, and what would not even fit a number is never admitted.
#include <algorithm>
#include <atomic>
#include <limits>

#include "core/check.h"
#include "mlxlm/wired_memory.h"

namespace mlxlm {
namespace {

constexpr auto most = std::numeric_limits<std::int64_t>::max();

std::optional<std::int64_t> checked_sum(
    std::int64_t first,
    const std::vector<std::int64_t>& rest) {
  for (auto value : rest)
    if (__builtin_add_overflow(first, value, &first)) return std::nullopt;
  return first;
}

std::int64_t clamp(
    std::int64_t value,
    std::optional<std::int64_t> cap,
    const WiredDemand& demand) {
  if (cap) return std::min(value, std::max<std::int64_t>(0, *cap));
  if (demand.recommended) return std::min(value, *demand.recommended);
  return value;
}

// baseline + base + sum of sizes, clamped.
class Sum : public WiredPolicy {
 public:
  Sum(std::string id, std::int64_t base, std::optional<std::int64_t> cap)
      : id_(std::move(id)), base_(base), cap_(cap) {}
  std::string id() const override {
    return id_;
  }
  std::int64_t limit(const WiredDemand& demand) const override {
    return clamp(projected(demand, 0).value_or(most), cap_, demand);
  }
  bool can_admit(const WiredDemand& demand, std::int64_t size) const override {
    auto sum = projected(demand, std::max<std::int64_t>(0, size));
    return sum && clamp(*sum, cap_, demand) == *sum;
  }

 private:
  std::optional<std::int64_t> projected(
      const WiredDemand& demand,
      std::int64_t size) const {
    auto sum = checked_sum(demand.baseline, {base_, size});
    return sum ? checked_sum(*sum, demand.sizes) : std::nullopt;
  }

  std::string id_;
  std::int64_t base_;
  std::optional<std::int64_t> cap_;
};

class Max final : public WiredPolicy {
 public:
  std::string id() const override {
    return "max";
  }
  std::int64_t limit(const WiredDemand& demand) const override {
    auto limit = demand.baseline;
    for (auto size : demand.sizes)
      limit = std::max(limit, size);
    return limit;
  }
};

class Fixed final : public WiredPolicy {
 public:
  explicit Fixed(std::int64_t bytes) : bytes_(bytes) {}
  std::string id() const override {
    return fmt::format("fixed {}", bytes_);
  }
  std::int64_t limit(const WiredDemand&) const override {
    return bytes_;
  }

 private:
  std::int64_t bytes_;
};

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

} // namespace

bool WiredPolicy::can_admit(const WiredDemand&, std::int64_t) const {
  return true;
}

WiredPolicyPtr sum_policy(std::optional<std::int64_t> cap) {
  auto id = cap ? fmt::format("sum {}", *cap) : "sum";
  return std::make_shared<Sum>(std::move(id), 0, cap);
}

WiredPolicyPtr max_policy() {
  return std::make_shared<Max>();
}

WiredPolicyPtr fixed_policy(std::int64_t bytes) {
  return std::make_shared<Fixed>(bytes);
}

WiredPolicyPtr budget_policy(const WiredBudget& budget) {
  auto id = budget.id.empty() ? fmt::format("budget {}", next_number())
                              : "budget " + budget.id;
  auto base = checked_sum(
      std::max<std::int64_t>(0, budget.base_bytes),
      {std::max<std::int64_t>(0, budget.kv_cache_bytes)});
  return std::make_shared<Sum>(std::move(id), base.value_or(most), budget.cap);
}

WiredTicket make_ticket(
    std::int64_t size,
    WiredPolicyPtr policy,
    WiredKind kind) {
  if (!policy)
    fail(ErrorKind::request, "make_ticket", "expected a policy, found none");
  return {next_number(), size, std::move(policy), kind};
}

} // namespace mlxlm

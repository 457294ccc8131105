// A device for tests: says what it is told to, remembers what it was told.
#pragma once

#include <vector>

#include "ledger/backend.h"

namespace mlxlm {

class FakeBackend final : public WiredBackend {
 public:
  bool has_limit = true;
  bool refuses = false;
  std::optional<std::int64_t> recommended;
  std::vector<std::int64_t> applied;
  std::chrono::steady_clock::time_point time{};

  bool supported() const override {
    return has_limit;
  }
  std::optional<std::int64_t> recommended_working_set() const override {
    return recommended;
  }
  bool apply(std::int64_t limit) override {
    if (!refuses) applied.push_back(limit);
    return !refuses;
  }
  std::chrono::steady_clock::time_point now() const override {
    return time;
  }
};

} // namespace mlxlm

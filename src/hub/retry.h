// Trying again: bounded, with growing pauses, and forgetful once a try has
// brought something.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "hub/http.h"

namespace mlxlm::hub {

class Retry {
 public:
  // `what` names the thing in errors; `pause` sleeps (and may throw).
  Retry(
      std::string what,
      int attempts,
      std::function<void(double seconds, const std::string& why)> pause);
  // After a try that brought `bytes` and ended in `answer`. Returns when it is
  // time for the next; throws Error when there will be none.
  void after(const Answer& answer, std::uint64_t bytes);

 private:
  std::string what_;
  int attempts_, failures_ = 0;
  std::function<void(double, const std::string&)> pause_;
};

// A 4xx that the same request will get again.
bool is_refusal(const Answer& answer);

// What a refusal means and what to do about it; the address of a gated model's
// page is `page`. Throws Error.
[[noreturn]] void refuse(
    const Answer& answer,
    const std::string& what,
    const std::string& page,
    const HubOptions& options);

} // namespace mlxlm::hub

#include "hub/retry.h"

#include <algorithm>
#include <charconv>

#include "core/check.h"
#include "core/strings.h"
#include "hub/address.h"

namespace mlxlm::hub {
namespace {

constexpr std::uint64_t enough_bytes = 256 << 10; // that a try counts as good
constexpr double longest_pause = 60;

bool passing(long status) {
  return status == 408 || status == 429 || status >= 500;
}

// Seconds; nothing for a date or nonsense.
double retry_after(const Answer& answer) {
  auto text = answer.header("retry-after");
  int seconds = 0;
  auto end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, seconds);
  return error == std::errc() && at == end && seconds > 0 ? seconds : 0;
}

std::string reason(const Answer& answer) {
  if (!answer.problem.empty()) return answer.problem;
  return fmt::format("{} answered {}", origin_of(answer.url), answer.status);
}

} // namespace

bool is_refusal(const Answer& answer) {
  return answer.problem.empty() && answer.status >= 400 &&
      answer.status < 500 && !passing(answer.status);
}

Retry::Retry(
    std::string what,
    int attempts,
    std::function<void(double, const std::string&)> pause)
    : what_(std::move(what)), attempts_(attempts), pause_(std::move(pause)) {}

void Retry::after(const Answer& answer, std::uint64_t bytes) {
  if (bytes >= enough_bytes) failures_ = 0;
  ++failures_;
  auto why = reason(answer);
  bool wrong = answer.problem.empty() && !passing(answer.status);
  if (answer.permanent || wrong) fail(ErrorKind::io, what_, "{}", why);
  auto wanted = retry_after(answer);
  if (failures_ >= attempts_ || wanted > longest_pause)
    fail(
        ErrorKind::io,
        what_,
        "{}; gave up after {} tr{}{}, the same command goes on from here",
        why,
        failures_,
        failures_ == 1 ? "y" : "ies",
        wanted > 0 ? fmt::format(" (asked to wait {} s)", wanted) : "");
  double pause = std::min(0.25 * double(1 << std::min(failures_ - 1, 5)), 16.0);
  pause_(std::max(pause, wanted), why);
}

[[noreturn]] void refuse(
    const Answer& answer,
    const std::string& what,
    const std::string& page,
    const HubOptions& options) {
  auto header = [&](const char* name) {
    auto found = answer.hub.find(name);
    return found == answer.hub.end() ? "" : found->second;
  };
  auto code = header("x-error-code");
  auto origin = origin_of(options.endpoint);
  std::string hint;
  if (options.token.empty())
    hint = "set HF_TOKEN if it is private or gated";
  else if (!is_private_enough(origin))
    hint = "the token was not sent over plain http";
  else
    hint = "the token of HF_TOKEN or `hf auth login` does not open it";
  if (code == "GatedRepo")
    fail(
        ErrorKind::request,
        what,
        "the model is gated: accept its conditions at {}, then {}",
        page,
        options.token.empty() ? "set HF_TOKEN" : "try again");
  if (code == "RevisionNotFound")
    fail(ErrorKind::request, what, "the hub knows no such revision");
  if (code == "EntryNotFound")
    fail(ErrorKind::request, what, "the hub has no such file at this commit");
  if (answer.status == 401 || answer.status == 403 || answer.status == 404)
    fail(
        ErrorKind::request,
        what,
        "expected a model of {}, found none ({}){}; {}",
        origin,
        answer.status,
        code.empty() ? "" : fmt::format(" {}", printable(code, 40)),
        hint);
  fail(
      ErrorKind::io,
      what,
      "expected the hub to answer 200, found {}",
      answer.status);
}

} // namespace mlxlm::hub

#include "serve/statistics.h"

#include <fmt/format.h>

#include <algorithm>

namespace mlxlm::serve {
namespace {

std::string header(
    std::string_view name,
    std::string_view type,
    std::string_view help) {
  return fmt::format(
      "# HELP mlxlm:{} {}\n# TYPE mlxlm:{} {}\n", name, help, name, type);
}

std::string value(
    std::string_view name,
    std::string_view type,
    std::string_view help,
    double number) {
  return header(name, type, help) + fmt::format("mlxlm:{} {}\n", name, number);
}

template <typename Map>
std::string labelled(
    std::string_view name,
    std::string_view label,
    std::string_view help,
    const Map& counts) {
  auto out = header(name, "counter", help);
  for (const auto& [key, count] : counts)
    out += fmt::format("mlxlm:{}{{{}=\"{}\"}} {}\n", name, label, key, count);
  return out;
}

} // namespace

const char* to_string(Activity::Phase phase) {
  switch (phase) {
    case Activity::Phase::waiting:
      return "waiting";
    case Activity::Phase::prompt:
      return "prompt";
    case Activity::Phase::answer:
      return "answer";
  }
  return "";
}

void Histogram::add(double x) {
  auto at = std::lower_bound(bounds_.begin(), bounds_.end(), x);
  ++counts_[static_cast<std::size_t>(at - bounds_.begin())];
  ++total_;
  sum_ += x;
}

std::string Histogram::text(std::string_view name, std::string_view help)
    const {
  auto out = header(name, "histogram", help);
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    out += fmt::format(
        "mlxlm:{}_bucket{{le=\"{}\"}} {}\n", name, bounds_[i], below);
  }
  return out +
      fmt::format(
             "mlxlm:{0}_bucket{{le=\"+Inf\"}} {1}\nmlxlm:{0}_sum {2}\nmlxlm:{0}_count {1}\n",
             name,
             total_,
             sum_);
}

void Statistics::request(int status) {
  std::lock_guard lock(mutex_);
  ++statuses_[status];
}

void Statistics::refused(std::string_view reason) {
  std::lock_guard lock(mutex_);
  ++refusals_[std::string(reason)];
}

std::uint64_t Statistics::begin(Activity activity) {
  std::lock_guard lock(mutex_);
  if (active_.empty()) moved_ = Clock::now();
  auto id = next_++;
  activity.id = id;
  activity.started = Clock::now();
  active_.emplace(id, std::move(activity));
  return id;
}

void Statistics::progress(std::uint64_t id, int done, int total) {
  std::lock_guard lock(mutex_);
  moved_ = Clock::now();
  auto found = active_.find(id);
  if (found == active_.end()) return;
  if (found->second.phase == Activity::Phase::waiting)
    found->second.reading = moved_;
  found->second.phase = Activity::Phase::prompt;
  found->second.prompt_done = done;
  found->second.prompt_tokens = total;
}

void Statistics::token(std::uint64_t id, int tokens) {
  std::lock_guard lock(mutex_);
  moved_ = Clock::now();
  auto found = active_.find(id);
  if (found == active_.end()) return;
  if (found->second.phase != Activity::Phase::answer)
    found->second.first = moved_;
  found->second.phase = Activity::Phase::answer;
  found->second.generated += tokens;
}

void Statistics::end(std::uint64_t id, const GenerateInfo& info) {
  std::lock_guard lock(mutex_);
  moved_ = Clock::now();
  if (auto found = active_.find(id); found != active_.end()) {
    auto& ended = keep(found->second, info.finish_reason);
    ended.cached = info.cached_prompt_tokens;
    auto whole = ended.waited + ended.read + ended.answered;
    ended.read = info.prompt_time;
    ended.answered = info.generate_time;
    ended.waited = std::max(0.0, whole - ended.read - ended.answered);
    active_.erase(found);
  }
  ++finishes_[std::string(to_string(info.finish_reason))];
  prompt_tokens_ += static_cast<std::uint64_t>(info.prompt_tokens);
  cached_tokens_ += static_cast<std::uint64_t>(info.cached_prompt_tokens);
  generated_ += static_cast<std::uint64_t>(info.generation_tokens);
  prompt_seconds_ += info.prompt_time;
  generated_seconds_ += info.generate_time;
  queued_.add(info.queue_time);
  if (info.generation_tokens == 0) return;
  first_.add(info.queue_time + info.prompt_time);
  whole_.add(info.queue_time + info.prompt_time + info.generate_time);
  if (info.generation_tokens > 1)
    between_.add(info.generate_time / (info.generation_tokens - 1));
}

void Statistics::abandoned(std::uint64_t id) {
  std::lock_guard lock(mutex_);
  auto found = active_.find(id);
  if (found == active_.end()) return;
  ++cancels_[to_string(found->second.phase)];
  keep(found->second, FinishReason::cancelled);
  active_.erase(found);
}

// Callers hold the mutex. Times by what has been seen from here.
Ended& Statistics::keep(const Activity& activity, FinishReason finish) {
  constexpr std::size_t kept = 256;
  auto now = Clock::now(), never = Clock::time_point{};
  auto first = activity.first == never ? now : activity.first;
  auto reading = activity.reading == never ? first : activity.reading;
  auto seconds = [](Clock::duration d) {
    return std::chrono::duration<double>(d).count();
  };
  Ended out{activity, std::string(to_string(finish))};
  out.unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count();
  out.waited = seconds(reading - activity.started);
  out.read = seconds(first - reading);
  out.answered = seconds(now - first);
  ended_.push_front(std::move(out));
  if (ended_.size() > kept) ended_.pop_back();
  return ended_.front();
}

std::vector<Ended> Statistics::ended() const {
  std::lock_guard lock(mutex_);
  return {ended_.begin(), ended_.end()};
}

std::vector<Activity> Statistics::activities() const {
  std::lock_guard lock(mutex_);
  std::vector<Activity> out;
  for (const auto& [id, activity] : active_)
    out.push_back(activity);
  return out;
}

double Statistics::stalled_seconds() const {
  std::lock_guard lock(mutex_);
  if (active_.empty()) return 0;
  return std::chrono::duration<double>(Clock::now() - moved_).count();
}

std::string Statistics::prometheus(
    const std::map<std::string, double>& gauges,
    int slots) const {
  std::lock_guard lock(mutex_);
  auto waiting = std::count_if(active_.begin(), active_.end(), [](auto& a) {
    return a.second.phase == Activity::Phase::waiting;
  });
  auto rate = [](std::uint64_t n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0;
  };
  struct {
    const char *name, *type, *help;
    double value;
  } figures[] = {
      {"prompt_tokens_total",
       "counter",
       "Prompt tokens read.",
       double(prompt_tokens_)},
      {"prompt_cached_tokens_total",
       "counter",
       "Prompt tokens found in a cache.",
       double(cached_tokens_)},
      {"prompt_seconds_total",
       "counter",
       "Time spent on prompts.",
       prompt_seconds_},
      {"tokens_predicted_total",
       "counter",
       "Tokens generated.",
       double(generated_)},
      {"tokens_predicted_seconds_total",
       "counter",
       "Time spent on generating.",
       generated_seconds_},
      {"prompt_tokens_seconds",
       "gauge",
       "Prompt tokens a second, of one answer on average.",
       rate(prompt_tokens_, prompt_seconds_)},
      {"predicted_tokens_seconds",
       "gauge",
       "Tokens generated a second, of one answer on average.",
       rate(generated_, generated_seconds_)},
      {"requests_processing",
       "gauge",
       "Answers being made.",
       double(active_.size()) - double(waiting)},
      {"requests_deferred", "gauge", "Answers that wait.", double(waiting)},
      {"slots", "gauge", "Answers that can be made together.", double(slots)}};
  std::string out;
  for (const auto& [name, type, help, number] : figures)
    out += value(name, type, help, number);
  for (const auto& [name, number] : gauges)
    out += value(name, "gauge", "See the name.", number);
  out += labelled(
      "request_success_total", "finished_reason", "Answers by end.", finishes_);
  out += labelled(
      "requests_cancelled_total", "phase", "Clients gone, by phase.", cancels_);
  out += labelled(
      "requests_refused_total", "reason", "Requests not taken.", refusals_);
  out += labelled(
      "http_responses_total", "status", "Responses by status.", statuses_);
  out += first_.text("time_to_first_token_seconds", "Until the first token.");
  out += between_.text(
      "time_per_output_token_seconds", "Between tokens, mean of an answer.");
  out += whole_.text("e2e_request_latency_seconds", "Until the last token.");
  out += queued_.text("request_queue_time_seconds", "Until admission.");
  return out;
}

} // namespace mlxlm::serve

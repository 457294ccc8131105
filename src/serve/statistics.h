// What the server counts, and Prometheus' text of it.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "mlxlm/generate.h"

namespace mlxlm::serve {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void add(double value);
  std::string text(std::string_view name, std::string_view help) const;

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_; // the last: beyond all bounds
  std::uint64_t total_ = 0;
  double sum_ = 0;
};

// What is known of an answer while it is made.
struct Activity {
  enum class Phase { waiting, prompt, answer };
  std::uint64_t id = 0;
  Phase phase = Phase::waiting;
  std::string request; // x-request-id
  std::string client;
  int prompt_tokens = 0, prompt_done = 0, generated = 0;
  // When a first piece of the prompt had been read, and when the first token
  // came; zero before that.
  std::chrono::steady_clock::time_point started, reading, first;
};

const char* to_string(Activity::Phase phase); // "waiting"

// What became of an answer, and where its time went.
struct Ended {
  Activity activity;
  std::string finish; // "stop", "length", "error", "cancelled"
  int cached = 0; // of the prompt's tokens
  std::int64_t unix_ms = 0; // when it ended
  double waited = 0, read = 0, answered = 0; // seconds
};

class Statistics {
 public:
  void request(int status);
  void refused(std::string_view reason);
  // An answer has begun to be made; its id.
  std::uint64_t begin(Activity activity);
  void progress(std::uint64_t id, int done, int total);
  void token(std::uint64_t id, int tokens);
  // `between`: mean seconds between its tokens.
  void end(std::uint64_t id, const GenerateInfo& info);
  // Given up by its client; `id` as above.
  void abandoned(std::uint64_t id);

  std::vector<Activity> activities() const;
  // The last ones that ended, the latest first.
  std::vector<Ended> ended() const;
  // Since when all that runs has done nothing; zero when nothing runs.
  double stalled_seconds() const;
  std::string prometheus(const std::map<std::string, double>& gauges, int slots)
      const;

 private:
  using Clock = std::chrono::steady_clock;
  Ended& keep(const Activity& activity, FinishReason finish);

  mutable std::mutex mutex_;
  std::map<std::uint64_t, Activity> active_;
  std::deque<Ended> ended_; // the latest first
  std::uint64_t next_ = 1;
  Clock::time_point moved_ = Clock::now(); // last step of any answer
  std::map<int, std::uint64_t> statuses_;
  std::map<std::string, std::uint64_t> refusals_, finishes_, cancels_;
  std::uint64_t prompt_tokens_ = 0, cached_tokens_ = 0, generated_ = 0;
  double prompt_seconds_ = 0, generated_seconds_ = 0;
  Histogram first_{{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}};
  Histogram between_{{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2}};
  Histogram whole_{{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}};
  Histogram queued_{{.001, .01, .05, .1, .5, 1, 5, 10, 30, 60}};
};

} // namespace mlxlm::serve

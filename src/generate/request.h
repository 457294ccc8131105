// What goes into the engine and what comes out of it: plain values.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "generate/bounded_queue.h"
#include "generate/constraint.h"
#include "mlxlm/generate.h"

namespace mlxlm {

class Constraint;
class LoadedAdapter;
class SequenceCache; // runner.h: what a PromptCache is inside

struct TokenEvent {
  int token;
  float logprob;
  std::vector<TokenLogprob> top = {}; // if asked for
};
struct FinishedEvent {
  GenerateInfo info;
};
using EngineEvent = std::variant<PrefillProgress, TokenEvent, FinishedEvent>;

// Between the engine and the one who reads. Its capacity covers every event
// that the request can cause, so that the engine never waits for a reader.
class Channel {
 public:
  explicit Channel(std::size_t capacity) : events(capacity) {}
  // For the engine.
  void push(EngineEvent event) {
    events.try_push(std::move(event));
    wake();
  }
  void end(FinishedEvent event) {
    events.push_last(std::move(event));
    wake();
  }
  // For a reader that does not wait: called after every event, and now.
  // Nothing: no longer, and no call is under way afterwards.
  void notify(std::function<void()> function) {
    {
      std::lock_guard lock(mutex_);
      wake_ = std::move(function);
    }
    wake();
  }

  BoundedQueue<EngineEvent> events;
  std::atomic<bool> cancelled{false};

 private:
  void wake() {
    std::lock_guard lock(mutex_);
    if (wake_) wake_();
  }
  std::mutex mutex_;
  std::function<void()> wake_;
};

struct Request {
  std::vector<int> prompt;
  SamplingParameters sampling;
  std::uint64_t seed = 0;
  std::uint32_t sample = 0; // which answer of several to the same prompt
  bool logprobs = false;
  std::shared_ptr<const Constraint> constraint =
      {}; // at its beginning, or null
  int max_tokens = 1; // within the context
  // How long the answer gets is not known: memory for it is taken step by step.
  bool open_ended = false;
  DraftParameters draft = {.kind = DraftKind::none}; // never automatic
  // Tokens that the constraint leaves no choice of are read together, and count
  // as guesses that were taken.
  bool forced = true;
  // Whether passes read more than one token, known beforehand or guessed.
  bool reads_ahead() const {
    return (forced && constraint && constraint->forces()) ||
        draft.kind != DraftKind::none;
  }
  // Never null.
  std::shared_ptr<const std::set<int>> stop_tokens =
      std::make_shared<const std::set<int>>();
  // What its rows go through besides the model; null: nothing.
  std::shared_ptr<const LoadedAdapter> adapter = nullptr;
  std::uint64_t group = 0; // see Job::group
  std::shared_ptr<SequenceCache> cache; // may be null
  // Begins with what others have read of the same text, and leaves its own.
  bool share_prefix = true;
  std::string cache_salt = {}; // nothing is shared with those of another
  // Begins when the last request that does not follow has read its prompt.
  bool follows = false;
  std::shared_ptr<Channel> channel;
};
using RequestPtr = std::shared_ptr<const Request>;

} // namespace mlxlm

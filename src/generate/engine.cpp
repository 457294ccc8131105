// Requests to passes to events, on one thread; see engine.h. How sequences
// grow is in engine_growth.cpp, who waits for whose prompt in
// engine_readers.cpp.
#include "generate/engine.h"

#include <algorithm>
#include <exception>
#include <future>

#include "core/check.h"

namespace mlxlm {
namespace {

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

// Where messages of a chat end: behind stop tokens. The first, behind which
// conversations part, and the last two, where the next turn begins.
std::vector<int> message_ends(
    const std::vector<int>& prompt,
    const std::set<int>& stop_tokens) {
  std::vector<int> ends;
  for (std::size_t i = 0; i + 1 < prompt.size(); ++i)
    if (stop_tokens.count(prompt[i])) ends.push_back(static_cast<int>(i) + 1);
  if (ends.size() > 3) ends.erase(ends.begin() + 1, ends.end() - 2);
  return ends;
}

} // namespace

Engine::Engine(
    const SchedulerLimits& limits,
    const std::function<std::unique_ptr<Runner>()>& make,
    std::function<std::size_t()> peak_memory)
    : scheduler_(limits), peak_memory_(std::move(peak_memory)) {
  std::promise<void> made;
  auto ready = made.get_future();
  thread_ = std::thread([this, &make, &made] {
    try {
      runner_ = make();
      admission_ = std::make_unique<Admission>(runner_->budget(), [this] {
        std::lock_guard lock(mutex_);
        freed_ = true;
        wake_.notify_one();
      });
    } catch (...) {
      made.set_exception(std::current_exception());
      return;
    }
    made.set_value();
    loop();
    admission_.reset();
    runner_.reset();
  });
  try {
    ready.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Engine::submit(std::vector<RequestPtr> requests) {
  auto now = Clock::now();
  {
    std::lock_guard lock(mutex_);
    for (auto& request : requests)
      incoming_.push_back({std::move(request), now});
  }
  wake_.notify_one();
}

void Engine::post(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void Engine::perform(const std::function<void()>& work) {
  wait_for([&] {
    runner_->changed();
    rested_ = false;
    worked_ = Clock::now();
    work();
  });
}

void Engine::look(const std::function<void(const Runner&)>& work) {
  wait_for([&] { work(*runner_); });
}

void Engine::wait_for(const std::function<void()>& work) {
  if (std::this_thread::get_id() == thread_.get_id()) return work();
  std::promise<void> done;
  post([&] {
    try {
      work();
      done.set_value();
    } catch (...) {
      done.set_exception(std::current_exception());
    }
  });
  done.get_future().get();
}

// ---- on the engine's thread
void Engine::loop() {
  while (take_commands()) {
    drop_cancelled();
    reserve_next();
    admit();
    try {
      step();
    } catch (const std::exception& error) {
      fail_all(error.what());
    }
  }
  while (!active_.empty())
    end(active_.begin()->first, FinishReason::cancelled);
  runner_->abandon();
}

// Waits while there is nothing to do. False: stop.
bool Engine::take_commands() {
  std::deque<std::function<void()>> work;
  std::deque<Incoming> incoming;
  {
    std::unique_lock lock(mutex_);
    auto busy = [&] {
      return stopping_ || freed_ || !work_.empty() || !incoming_.empty();
    };
    // Only a cancelled request comes without a call.
    if (stuck_ && !active_.empty() && passes_.empty())
      wake_.wait_for(lock, std::chrono::milliseconds(20), busy);
    freed_ = false;
    bool idle = active_.empty() && passes_.empty();
    if (!idle) {
      rested_ = false;
      worked_ = Clock::now();
    } else if (!rested_) {
      // A pause between two requests is not worth giving memory back.
      rested_ =
          !wake_.wait_until(lock, worked_ + std::chrono::seconds(1), busy);
      if (rested_) {
        lock.unlock();
        runner_->rest();
        lock.lock();
      }
    }
    if (idle && rested_) wake_.wait(lock, busy);
    work.swap(work_);
    incoming.swap(incoming_);
    if (stopping_ && work.empty() && incoming.empty()) return false;
  }
  for (auto& job : work)
    job();
  for (auto& request : incoming)
    accept(std::move(request));
  return true;
}

void Engine::accept(Incoming incoming) {
  auto id = next_id_++;
  const auto& request = *incoming.request;
  Job job{
      .id = id,
      .prefill = static_cast<int>(request.prompt.size()),
      .new_tokens = request.max_tokens,
      .group = request.group,
      .follows = request.follows ? leader_ : 0};
  if (!request.follows) leader_ = id;
  if (auto tokens = runner_->state_tokens()) {
    job.align = tokens;
    job.ends = message_ends(request.prompt, *request.stop_tokens);
  }
  auto& active = active_[id];
  active.request = std::move(incoming.request);
  active.submitted = incoming.time;
  active.info.seed = request.seed;
  active.info.prompt_tokens = job.prefill;
  if (request.cache) {
    // Passes under way may still hold what the cache is to give.
    while (!passes_.empty())
      finish_pass();
    open(id);
  }
  auto prompt = static_cast<int>(request.prompt.size());
  int answer = request.max_tokens;
  if (request.open_ended) answer = std::min(answer, active.growth);
  active.reserved = prompt + answer;
  auto refusal = admission_->refusal(active.reserved);
  if (!refusal) refusal = scheduler_.submit(job);
  if (!refusal) return;
  active.info.error_kind = ErrorKind::resource;
  end(id, FinishReason::error, *refusal);
}

void Engine::admit() {
  stuck_ = false;
  // Those who run come first.
  if (standing_ > 0) return admission_->withdraw();
  auto fits = [&](const Job& job) {
    return admission_->take(job.id, active_.at(job.id).reserved);
  };
  for (auto id : scheduler_.admit(fits)) {
    auto& active = active_.at(id);
    active.runs = true;
    active.planned = static_cast<int>(active.request->prompt.size()) +
        active.info.generation_tokens;
    if (active.admitted != Clock::time_point{}) { // once more
      scheduler_.skip(id, runner_->resume(id));
      continue;
    }
    active.admitted = Clock::now();
    active.info.queue_time = seconds(active.admitted - active.submitted);
    if (!active.request->cache) open(id);
    scheduler_.skip(id, active.info.cached_prompt_tokens);
    wait_for_reader(id);
  }
  stuck_ = scheduler_.running() == 0;
}

void Engine::open(std::uint64_t id) {
  auto& active = active_.at(id);
  known(active, runner_->open(id, active.request));
}

// So much of its prompt needs no reading.
void Engine::known(Active& active, int tokens) const {
  auto& info = active.info;
  info.prompt_tokens -= tokens - info.cached_prompt_tokens;
  info.cached_prompt_tokens = active.processed = tokens;
}

void Engine::drop_cancelled() {
  for (auto it = active_.begin(); it != active_.end();) {
    auto current = it++;
    if (current->second.request->channel->cancelled)
      end(current->first, FinishReason::cancelled);
  }
}

// Whether a sequence that has been admitted reads more than it has drawn.
bool Engine::drafts() const {
  return std::any_of(active_.begin(), active_.end(), [](const auto& entry) {
    const auto& active = entry.second;
    return active.request->reads_ahead() &&
        active.admitted != Clock::time_point{};
  });
}

void Engine::step() {
  // Guesses follow what has been drawn, so no pass is started ahead of it.
  if (drafts())
    while (!passes_.empty())
      finish_pass();
  go_on();
  auto pieces = scheduler_.plan([this](int decoding, int reading, int most) {
    return pace_.prompt_tokens(decoding, reading, most);
  });
  bool started = !pieces.empty();
  if (!started && passes_.empty() && standing_ > 0) return make_way();
  for (const auto& piece : pieces)
    if (piece.decode) ++active_.at(piece.id).planned;
  if (started) {
    passes_.push_back({std::move(pieces), {}, Clock::now()});
    runner_->start(passes_.back().pieces);
  }
  // The pass just started runs while the tokens of the one before are read.
  if (passes_.size() > (started ? 1u : 0u)) finish_pass();
}

void Engine::finish_pass() {
  auto drawn = runner_->finish();
  auto pass = std::move(passes_.front());
  passes_.pop_front();
  note_time(pass);
  give_back(pass);
  report_progress(pass.pieces);
  for (const auto& d : drawn)
    handle(d);
}

// Passes run one after another, so one begins when the one before has ended.
void Engine::note_time(const Pass& pass) {
  int decoding = 0, prompt = 0;
  for (const auto& piece : pass.pieces)
    (piece.decode ? decoding : prompt) += piece.count;
  auto now = Clock::now();
  pace_.note(decoding, prompt, seconds(now - std::max(passed_, pass.started)));
  passed_ = now;
}

void Engine::give_back(const Pass& pass) {
  for (auto id : pass.ended)
    admission_->give_back(id);
}

void Engine::report_progress(const std::vector<Piece>& pieces) {
  for (const auto& piece : pieces) {
    auto it = active_.find(piece.id);
    if (piece.decode || it == active_.end()) continue;
    auto& active = it->second;
    if (active.info.generation_tokens > 0) continue; // read once more
    active.processed += piece.count;
    active.request->channel->push(PrefillProgress{
        active.processed, static_cast<int>(active.request->prompt.size())});
  }
}

void Engine::handle(const Drawn& drawn) {
  auto it = active_.find(drawn.id);
  if (it == active_.end()) return; // ended while this pass was under way
  auto& active = it->second;
  const auto& request = *active.request;
  if (drawn.token < 0) return end(drawn.id, FinishReason::error, drawn.error);
  if (!drawn.first) ++active.planned; // one that had been guessed
  active.info.draft += {drawn.guessed, drawn.taken, drawn.first ? 1 : 0};
  active.last = Clock::now();
  if (active.info.generation_tokens++ == 0) active.first = active.last;
  if (request.stop_tokens->count(drawn.token))
    return end(drawn.id, FinishReason::stop);
  request.channel->push(TokenEvent{drawn.token, drawn.logprob, drawn.top});
  if (active.info.generation_tokens >= request.max_tokens)
    end(drawn.id, FinishReason::length);
}

void Engine::end(std::uint64_t id, FinishReason reason, std::string error) {
  auto it = active_.find(id);
  auto active = std::move(it->second);
  active_.erase(it);
  scheduler_.finish(id);
  runner_->close(id);
  // A pass under way may still have its pages.
  if (passes_.empty())
    admission_->give_back(id);
  else
    passes_.back().ended.push_back(id);
  auto& info = active.info;
  info.finish_reason = reason;
  info.error = std::move(error);
  if (info.generation_tokens > 0) {
    info.prompt_time = seconds(active.first - active.admitted);
    info.generate_time = seconds(active.last - active.first);
  }
  info.peak_memory_bytes = peak_memory_();
  auto channel = active.request->channel;
  active.request.reset();
  channel->end(FinishedEvent{std::move(info)});
}

void Engine::fail_all(const std::string& what) {
  // Sequences under way are in an unknown state; those still waiting are not.
  std::vector<std::uint64_t> broken;
  for (const auto& [id, active] : active_)
    if (active.admitted != Clock::time_point{}) broken.push_back(id);
  for (const auto& pass : passes_)
    give_back(pass);
  passes_.clear();
  runner_->abandon();
  for (auto id : broken)
    end(id, FinishReason::error, what);
}

} // namespace mlxlm

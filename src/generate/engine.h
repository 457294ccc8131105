// The thread that owns a model: takes requests, lets the scheduler plan passes,
// runs them one ahead, hands out tokens. Everything that touches the model or
// its arrays happens here.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "generate/admission.h"
#include "generate/pass_pace.h"
#include "generate/request.h"
#include "generate/runner.h"
#include "generate/scheduler.h"

namespace mlxlm {

class Engine {
 public:
  // `make` runs on the new thread; what it throws comes out here.
  Engine(
      const SchedulerLimits& limits,
      const std::function<std::unique_ptr<Runner>()>& make,
      std::function<std::size_t()> peak_memory);
  // Cancels what runs and waits for the thread; the runner dies on it.
  ~Engine();

  // They join in the same pass. A refusal arrives as a FinishedEvent.
  void submit(std::vector<RequestPtr> requests);
  // Runs `work` between two passes and waits for it; exceptions come back. It
  // may change the model.
  void perform(const std::function<void()>& work);
  // The same for what only looks: passes that were recorded stay.
  void look(const std::function<void(const Runner&)>& work);
  // Runs `work` some time later; it does not change the model.
  void post(std::function<void()> work);

 private:
  using Clock = std::chrono::steady_clock;
  struct Active {
    RequestPtr request;
    GenerateInfo info;
    Clock::time_point submitted, admitted, first, last;
    int processed = 0; // prompt tokens, cached ones included
    bool runs = false; // as the scheduler has it
    int planned = 0; // tokens it remembers once the passes are over
    int reserved = 0; // tokens that its memory ticket covers
    int growth = 256; // tokens by which an open-ended one grows
    std::uint64_t waits_for = 0; // who reads what its prompt begins with
    int goal = 0; // so many tokens of it
  };
  struct Pass {
    std::vector<Piece> pieces;
    std::vector<std::uint64_t> ended; // whose memory it still holds
    Clock::time_point started = Clock::now();
  };
  struct Incoming {
    RequestPtr request;
    Clock::time_point time;
  };

  void run(const std::function<std::unique_ptr<Runner>()>& make);
  void wait_for(const std::function<void()>& work);
  void loop();
  bool take_commands();
  void accept(Incoming incoming);
  void admit();
  void open(std::uint64_t id);
  void known(Active& active, int tokens) const;
  void wait_for_reader(std::uint64_t id);
  bool is_read(std::uint64_t reader, int goal) const;
  void look_again(std::uint64_t id);
  void go_on();
  void reserve_next();
  void make_way();
  void rewind(std::uint64_t id);
  void drop_cancelled();
  bool drafts() const;
  void step();
  void finish_pass();
  void give_back(const Pass& pass);
  void note_time(const Pass& pass);
  void handle(const Drawn& drawn);
  void report_progress(const std::vector<Piece>& pieces);
  void end(std::uint64_t id, FinishReason reason, std::string error = {});
  void fail_all(const std::string& what);

  Scheduler scheduler_;
  std::function<std::size_t()> peak_memory_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<Admission> admission_;
  std::map<std::uint64_t, Active> active_; // waiting ones too
  std::deque<Pass> passes_; // under way
  PassPace pace_;
  Clock::time_point passed_; // when the last pass ended
  std::uint64_t next_id_ = 1;
  int standing_ = 0; // sequences that found no memory to grow into
  std::uint64_t leader_ = 0; // the last job that follows none
  bool stuck_ = false; // none runs: others hold the memory
  Clock::time_point worked_ = {}; // there was something to do
  bool rested_ = false; // since then

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;
  std::deque<Incoming> incoming_;
  bool stopping_ = false;
  bool freed_ = false; // a request that waited for memory may start
  std::thread thread_; // last: starts when all else exists
};

} // namespace mlxlm

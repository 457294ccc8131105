// Which tokens of which sequences share the next pass. Pure: it sees numbers
// and returns a plan, so it is tested without a model.
//
// Every decoding sequence gets its token in every pass. What is left of the
// pass' token budget reads prompts: the oldest gets at least half of it, the
// rest goes to whoever is done soonest, so a short prompt never waits behind a
// long one for more than two passes, and the long one never stops. Prompts take
// no more of a pass than keeps the pace of those that decode; but where fewer
// decode than read, and a few passes read all there is, these come first. Small
// pieces are of one prompt, in turns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mlxlm {

struct SchedulerLimits {
  int step_tokens = 512; // of one pass; decoding sequences may exceed it
  int max_sequences = 32; // that run together
  int max_waiting = 512;
};

struct Job {
  std::uint64_t id = 0;
  int prefill = 0; // prompt tokens, >= 1
  int new_tokens = 0; // most tokens to draw, >= 1
  // Jobs of one group (not 0) begin to decode together, when the last has read
  // its prompt. Submit them one after another.
  std::uint64_t group = 0;
  // Chunks end where the sequence may be come back to: at these many tokens of
  // the prompt, ascending, and at multiples of `align`; 1: anywhere.
  std::vector<int> ends = {};
  int align = 1;
  // Is admitted once this job, submitted before, has read its prompt; 0: none.
  std::uint64_t follows = 0;
};

// A run of one sequence's tokens in a pass.
struct Piece {
  std::uint64_t id = 0;
  int count = 1;
  bool decode = false; // one drawn token, else tokens of the prompt
  bool samples = false; // a token is drawn after it
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits) : limits_(limits) {}

  // Why the job cannot be taken, or nothing when it now waits.
  std::optional<std::string> submit(const Job& job);
  // Moves waiting jobs, first come first served, to the running ones as far as
  // limits allow and `fits` says of each, and returns their ids.
  std::vector<std::uint64_t> admit(
      const std::function<bool(const Job&)>& fits = {});
  // The first `tokens` of an admitted job's prompt need no reading; at least
  // one does.
  void skip(std::uint64_t id, int tokens);
  // The next pass, decoding sequences first. Counts its tokens as done.
  // `beside`: most tokens of prompts that leave so many decoding sequences
  // their pace, while so many read, at most so many.
  std::vector<Piece> plan(
      const std::function<int(int decoding, int reading, int most)>& beside =
          {});
  // A running sequence stands still, or goes on.
  void hold(std::uint64_t id, bool stands);
  // It does not read on for now, or does again.
  void wait(std::uint64_t id, bool waits);
  // One of its chunks ends at so many tokens of the prompt.
  void cut(std::uint64_t id, int tokens);
  // Tokens that it has still to read; 0 where it does not run.
  int unread(std::uint64_t id) const;
  // A running sequence begins again, before all that wait: with so many tokens
  // to read and to draw.
  void requeue(std::uint64_t id, int prefill, int new_tokens);
  // The sequence has ended or is given up, wherever it stood.
  void finish(std::uint64_t id);

  bool idle() const {
    return waiting_.empty() && running_.empty();
  }
  std::size_t running() const {
    return running_.size();
  }
  std::size_t waiting() const {
    return waiting_.size();
  }

 private:
  struct Running {
    Job job;
    int unread; // prompt tokens
    int left; // tokens that may still be drawn
    bool stands = false;
    bool waits = false; // with reading
    bool reads() const {
      return unread > 0 && !waits;
    }
  };
  const Running* find(std::uint64_t id) const; // null: does not run
  Running* find(std::uint64_t id);
  bool follows_a_reader(const Job& job) const;
  bool held(const Running& running) const;
  int reading() const;
  bool short_burst(int decoding) const;
  // At most `budget` tokens, about `count`.
  void read(
      Running& running,
      int count,
      int budget,
      std::vector<Piece>& pieces);
  void plan_prefill(int budget, std::vector<Piece>& pieces);

  SchedulerLimits limits_;
  std::deque<Job> waiting_;
  std::vector<Running> running_; // in order of admission
  bool others_turn_ = false; // had the last small piece
};

// The size of the next chunk when `tokens` are cut into as few chunks of at
// most `step` as possible, all about equally long.
int balanced_chunk(int tokens, int step);

} // namespace mlxlm

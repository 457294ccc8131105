// Passes through the model: builds and starts them, one ahead of the one whose
// tokens are read. Only for the engine's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cache/page_counts.h"
#include "generate/admission.h"
#include "generate/request.h"
#include "generate/scheduler.h"

namespace mlxlm {

// What became of one piece of a pass.
struct Drawn {
  std::uint64_t id = 0;
  int token = -1; // -1: none; `error` says why
  float logprob = 0;
  std::string error;
  bool first = true; // of what its pass drew for the sequence
  int guessed = 0, taken = 0; // by it: zero but in the first
  std::vector<TokenLogprob> top = {}; // if asked for
};

class Runner {
 public:
  virtual ~Runner() = default;
  // Begins a sequence; returns how many tokens of its prompt the request's
  // cache holds already (at least one remains to be read).
  virtual int open(std::uint64_t id, const RequestPtr& request) = 0;
  // Ends it, whether or not passes with it are still under way. What it has
  // read goes back to the request's cache.
  virtual void close(std::uint64_t id) = 0;
  // Starts a pass. A sequence that finds no room is left out and its Drawn says
  // so.
  virtual void start(const std::vector<Piece>& pieces) = 0;
  // Waits for the oldest pass: its sampling pieces, and those left out. A piece
  // that was drafted ahead gives several, in order.
  virtual std::vector<Drawn> finish() = 0;
  // Forgets the passes under way, after an error.
  virtual void abandon() = 0;
  // Where sequences have states that can only be come back to at certain
  // places: the tokens of a page, at whose boundaries they are kept; else 0.
  virtual int state_tokens() const {
    return 0;
  }
  // What sequences may take together.
  virtual SequenceBudget budget() const {
    return {};
  }
  // Forgets what the sequence has read, to read it again later together with
  // the tokens drawn. No pass is under way.
  virtual void rewind(std::uint64_t id) = 0;
  // It goes on; returns how many of these tokens need no reading.
  virtual int resume(std::uint64_t id) = 0;
  // What one sequence reads others can go on from while it reads on: tokens of
  // a page; 0: nothing is shared.
  virtual int shared_tokens() const {
    return 0;
  }
  // Once the sequence has read so many tokens, whole pages, others find them.
  // False: it shares nothing.
  virtual bool leave_at(std::uint64_t, int) {
    return false;
  }
  // For a sequence that has read nothing since open(): how many tokens of its
  // prompt are there by now.
  virtual int look_again(std::uint64_t) {
    return 0;
  }
  virtual PageCounts pages() const {
    return {};
  }
  // The model may have been changed from outside.
  virtual void changed() {}
  // There has been nothing to do for a while.
  virtual void rest() {}
};

} // namespace mlxlm

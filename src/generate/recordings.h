// Decode passes recorded once for each number of rows and then done again: the
// same kernels on the same buffers with other tokens, positions, pages and
// samplers. Building and evaluating a graph costs more than a small model's
// kernels; this costs one task.
//
// A pass may be recorded when its graph is made of our kernels and views
// (tape.h), no host code looked at the step (step.h), and everything it reads
// but the above was there in the same buffers one pass before: a value computed
// on the host for this pass would be a new array.
#pragma once

#include <mlx/array.h>

#include <exception>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"
#include "generate/sample_op.h"
#include "generate/token_op.h"
#include "runtime/kernels/tape.h"

namespace mlxlm {

// What differs between two passes of as many rows.
struct PassInputs {
  std::shared_ptr<TokenJob> tokens = {};
  std::optional<mx::array> drawn = {}; // ids that the tokens are taken from
  std::shared_ptr<PassTables> tables = {}; // null: nothing is paged
  std::shared_ptr<SampleJob> samples = {};
  std::vector<int> positions = {};
  mx::array position_array; // the same, where the kernels read it
};

// A pass being done again. Belongs to the engine's thread.
class Replay {
 public:
  Replay() = default;
  Replay(Replay&&) = default;
  Replay& operator=(Replay&&) = default;
  ~Replay() {
    if (done_.valid()) done_.wait();
  }
  // Waits; throws what a kernel threw. What the pass used is let go here:
  // arrays do not die on the kernels' thread.
  void finish() {
    auto keeps = std::move(keeps_);
    done_.get();
  }

 private:
  friend class Recordings;
  std::future<void> done_;
  std::shared_ptr<void> keeps_;
};

// Passes that are alike.
struct PassKind {
  int rows = 0;
  bool hidden = false; // hidden states are looked at
  auto operator<=>(const PassKind&) const = default;
};
struct PassResult {
  mx::array ids; // [rows]
  std::optional<mx::array> hidden = {}; // that `ids` come from, of every row
};

class Recordings {
 public:
  static constexpr int most_rows = 64; // of a pass that is recorded

  // Whether passes of this kind can be done again.
  bool holds(PassKind kind) const;
  // Starts one: what comes of it will be in result(kind), until the next.
  Replay run(PassKind kind, PassInputs inputs);
  const PassResult& result(PassKind kind) const;

  // Starts the evaluation of a decode pass that was built, read from `inputs`.
  // Records it if that can be done.
  void evaluate(const PassResult& result, PassInputs inputs, const Step& step);
  // After anything that may have changed the model.
  void forget();
  // Passes recorded and replayed so far.
  int recorded() const {
    return recorded_;
  }
  int replayed() const {
    return replayed_;
  }

 private:
  struct Recording;
  struct Entry {
    std::vector<mx::array> leaves; // of the pass before, while looking
    std::size_t primitives = 0; // of its graph
    int tries = 0;
    std::shared_ptr<Recording> recording;
    int last_use = 0;
  };

  // Looks whether the pass is like the one before, and records it then.
  void look(Entry& entry, const PassResult& result, PassInputs inputs);
  void record(
      Entry& entry,
      kernels::Recorder& recorder,
      const PassResult& result,
      PassInputs inputs);
  void make_room();

  std::map<PassKind, Entry> entries_;
  // What all of them make on their way lies here: one runs after the other.
  std::shared_ptr<kernels::ResultMemory> memory_;
  int clock_ = 0, recorded_ = 0, replayed_ = 0;
};

} // namespace mlxlm

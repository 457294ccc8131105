// The kernel calls of one evaluation, kept to be made again on the same
// buffers: a step of generation then costs no graph, no scheduling of nodes and
// no allocation. (The idea of CUDA graphs, for the CPU.)
//
//   Recorder recorder(result);       // a graph not yet evaluated
//   bool good = recorder.rehearse(); // evaluates it, looking on
//   ...
//   Recorder again(like);            // the same graph once more
//   auto tape = again.record(memory);
//   ...                              // change what the kernels read
//   tape->run();                     // the same arrays hold the new results
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include "runtime/memory/results.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {

namespace mx = mlx::core;
using Call = std::function<void()>;
using Reads = std::vector<MemoryRange>;

// A primitive whose eval_cpu calls dispatch() exactly once, with a call that
// can be made again.
class Recordable {
 protected:
  ~Recordable() = default;
};

// Gives the call to the stream's thread, and to the recording under way on this
// thread, if any. `reads`: weights that it goes through once, largest first.
void dispatch(const mx::Stream& stream, Call call, Reads reads = {});

// Results that may wait for the kernels that use them, some layers of a
// prompt's pass: bytes. Beyond that whoever hands out work waits.
constexpr std::size_t most_ahead = std::size_t{32} << 20;

class Tape {
 public:
  // Makes all calls, on this thread; while one runs the weights of the next are
  // fetched ahead.
  void run() const;

 private:
  friend class Recorder;
  struct Step {
    Call call;
    Reads reads;
  };
  std::vector<Step> steps_;
  std::vector<std::size_t> next_reader_; // after each step, cyclic
  std::vector<mx::array> leaves_; // what the calls read and do not make
  std::shared_ptr<ResultMemory> memory_; // where what they make lies
};
using TapePtr = std::shared_ptr<const Tape>;

class Recorder {
 public:
  // Looks at the graph behind `result`; evaluated arrays in it are leaves.
  // `also`: arrays of it that are looked at when the pass is over, as the
  // result.
  explicit Recorder(
      const mx::array& result,
      const std::vector<mx::array>& also = {});

  const std::vector<mx::array>& leaves() const {
    return leaves_;
  }
  // Whether every primitive is Recordable or may be a view of its input.
  bool recordable() const {
    return recordable_;
  }
  std::size_t primitives() const {
    return kernels_ + views_.size();
  }
  // Starts the evaluation. Whether the kernels' calls are all of the work, so
  // that a graph built alike can be recorded.
  bool rehearse();
  // Evaluates. What the calls make lies in `memory`, a thing where another was
  // before, and is good until the memory is used for another evaluation; the
  // results have their own. Null where calls were missing.
  TapePtr record(const std::shared_ptr<ResultMemory>& memory);

 private:
  struct View {
    mx::array out;
    std::vector<mx::array> inputs;
  };

  void visit(const mx::array& x);
  void find_lasting(const mx::array& x);

  mx::array result_;
  std::vector<mx::array> leaves_;
  std::vector<View> views_;
  std::unordered_set<std::uintptr_t> lasting_;
  std::size_t kernels_ = 0;
  bool recordable_ = true;
};

// Whether two arrays lie in one buffer.
bool same_buffer(const mx::array& a, const mx::array& b);

} // namespace mlxlm::kernels

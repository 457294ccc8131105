// The kernel calls of one evaluation, kept to be made again on the same
// buffers: a step of generation then costs no graph, no scheduling of nodes and
// no allocation. (The idea of CUDA graphs, for the CPU.)
//
//   Recorder recorder(result);       // a graph not yet evaluated
//   auto tape = recorder.record();   // evaluates it, asynchronously
//   ...                              // change what the kernels read
//   tape->run();                     // the same arrays hold the new results
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

#include <functional>
#include <memory>
#include <vector>

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
  std::vector<mx::array> buffers_; // what the calls work on
};
using TapePtr = std::shared_ptr<const Tape>;

class Recorder {
 public:
  // Looks at the graph behind `result`; evaluated arrays in it are leaves.
  explicit Recorder(const mx::array& result);

  const std::vector<mx::array>& leaves() const {
    return leaves_;
  }
  // Whether every primitive is Recordable or may be a view of its input.
  bool recordable() const {
    return recordable_;
  }
  // Starts the evaluation. Null where it turned out that the calls made are not
  // all of the work; the evaluation is good all the same.
  TapePtr record();

 private:
  struct View {
    mx::array out;
    std::vector<mx::array> inputs;
  };

  void visit(const mx::array& x);

  mx::array result_;
  std::vector<mx::array> leaves_, made_;
  std::vector<View> views_;
  std::size_t kernels_ = 0;
  bool recordable_ = true;
};

// Whether two arrays lie in one buffer.
bool same_buffer(const mx::array& a, const mx::array& b);

} // namespace mlxlm::kernels

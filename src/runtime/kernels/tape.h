// The kernel calls of one evaluation, kept to be made again on the same
// buffers: a step of generation then costs no graph, no scheduling of nodes and
// no allocation. (The idea of CUDA graphs, for the CPU.)
//
//   Recorder recorder(result);       // a graph not yet evaluated
//   auto tape = recorder.record();   // evaluates it, asynchronously
//   ...                              // change what the kernels read
//   enqueue(tape->calls);            // the same arrays hold the new results
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

#include <functional>
#include <memory>
#include <vector>

namespace mlxlm::kernels {

namespace mx = mlx::core;
using Call = std::function<void()>;

// A primitive whose eval_cpu calls dispatch() exactly once, with a call that
// can be made again.
class Recordable {
 protected:
  ~Recordable() = default;
};

// Gives the call to the stream's thread, and to the recording under way on this
// thread, if any.
void dispatch(const mx::Stream& stream, Call call);

struct Tape {
  std::vector<Call> calls; // in order; valid while the tape lives
  std::vector<mx::array> buffers;
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

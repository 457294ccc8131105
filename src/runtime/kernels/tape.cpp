// Walking a graph, and keeping the calls of its evaluation; see tape.h.
#include "runtime/kernels/tape.h"

#include <mlx/backend/cpu/encoder.h>
#include <mlx/primitives.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace mlxlm::kernels {

namespace {

thread_local std::vector<Call>* recording = nullptr;

class Recording {
 public:
  explicit Recording(std::vector<Call>& calls) {
    recording = &calls;
  }
  ~Recording() {
    recording = nullptr;
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

} // namespace

void dispatch(const mx::Stream& stream, Call call) {
  if (recording) recording->push_back(call);
  mx::cpu::get_command_encoder(stream).dispatch(std::move(call));
}

bool same_buffer(const mx::array& a, const mx::array& b) {
  return a.data_shared_ptr() && a.data_shared_ptr() == b.data_shared_ptr();
}

Recorder::Recorder(const mx::array& result) : result_(result) {
  std::unordered_set<std::uintptr_t> seen;
  std::unordered_set<const mx::Primitive*> primitives;
  std::vector<mx::array> open{result};
  while (!open.empty()) {
    auto x = std::move(open.back());
    open.pop_back();
    if (!seen.insert(x.id()).second) continue;
    if (!x.has_primitive()) {
      leaves_.push_back(x);
      continue;
    }
    if (primitives.insert(&x.primitive()).second) visit(x);
    for (const auto& in : x.inputs())
      open.push_back(in);
  }
}

void Recorder::visit(const mx::array& x) {
  auto outputs = x.outputs();
  made_.insert(made_.end(), outputs.begin(), outputs.end());
  if (dynamic_cast<const Recordable*>(&x.primitive())) {
    ++kernels_;
    return;
  }
  static const std::unordered_set<std::string_view> views{
      "AsStrided",
      "Broadcast",
      "Contiguous",
      "ExpandDims",
      "Flatten",
      "Reshape",
      "Slice",
      "Split",
      "Squeeze",
      "Transpose",
      "Unflatten"};
  recordable_ = recordable_ && views.count(x.primitive().name()) > 0;
  for (const auto& out : outputs)
    views_.push_back({out, x.inputs()});
}

TapePtr Recorder::record() {
  auto tape = std::make_shared<Tape>();
  {
    Recording scope(tape->calls);
    mx::async_eval(result_);
  }
  bool whole = recordable_ && tape->calls.size() == kernels_ &&
      std::all_of(views_.begin(), views_.end(), [](const View& v) {
                 return std::any_of(
                     v.inputs.begin(), v.inputs.end(), [&](const auto& in) {
                       return same_buffer(v.out, in);
                     });
               });
  if (!whole) return nullptr;
  tape->buffers = std::move(made_);
  tape->buffers.insert(tape->buffers.end(), leaves_.begin(), leaves_.end());
  return tape;
}

} // namespace mlxlm::kernels

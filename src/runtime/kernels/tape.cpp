// Walking a graph, and keeping the calls of its evaluation; see tape.h.
#include "runtime/kernels/tape.h"

#include <mlx/backend/cpu/encoder.h>
#include <mlx/primitives.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "runtime/kernels/in_flight.h"

namespace mlxlm::kernels {

namespace {

using OnCall = std::function<void(const Call&, Reads)>;
thread_local const OnCall* recording = nullptr;

class Recording {
 public:
  explicit Recording(const OnCall& keep) {
    recording = &keep;
  }
  ~Recording() {
    recording = nullptr;
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

} // namespace

void dispatch(const mx::Stream& stream, Call call, Reads reads) {
  if (recording) (*recording)(call, std::move(reads));
  auto flight = InFlight::here();
  flight->begin(live_arrays());
  mx::cpu::get_command_encoder(stream).dispatch(
      [call = std::move(call), flight] {
        call();
        flight->end();
      });
  flight->wait(live_arrays, most_ahead);
}

bool same_buffer(const mx::array& a, const mx::array& b) {
  return a.data_shared_ptr() && a.data_shared_ptr() == b.data_shared_ptr();
}

Recorder::Recorder(const mx::array& result, const std::vector<mx::array>& also)
    : result_(result) {
  find_lasting(result);
  for (const auto& x : also)
    find_lasting(x);
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

// A view lies where what it is of lies.
void Recorder::find_lasting(const mx::array& x) {
  if (!lasting_.insert(x.id()).second || !x.has_primitive()) return;
  if (dynamic_cast<const Recordable*>(&x.primitive())) return;
  for (const auto& in : x.inputs())
    find_lasting(in);
}

void Recorder::visit(const mx::array& x) {
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
  for (const auto& out : x.outputs())
    views_.push_back({out, x.inputs()});
}

bool Recorder::rehearse() {
  std::size_t calls = 0;
  OnCall count = [&](const Call&, const Reads&) { ++calls; };
  {
    Recording scope(count);
    mx::async_eval(result_);
  }
  return recordable_ && calls == kernels_ &&
      std::all_of(views_.begin(), views_.end(), [](const View& v) {
           return std::any_of(
               v.inputs.begin(), v.inputs.end(), [&](const auto& in) {
                 return same_buffer(v.out, in);
               });
         });
}

TapePtr Recorder::record(const std::shared_ptr<ResultMemory>& memory) {
  auto tape = std::make_shared<Tape>();
  auto& steps = tape->steps_;
  OnCall keep = [&](const Call& call, Reads reads) {
    steps.push_back({call, std::move(reads)});
  };
  views_.clear(); // what they hold would not be free after its last use
  memory->start_over();
  {
    Recording scope(keep);
    ResultsGoTo there(*memory, lasting_);
    mx::async_eval(result_);
  }
  if (steps.size() != kernels_) return nullptr;
  tape->memory_ = memory;
  tape->leaves_ = leaves_;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    auto next = (i + 1) % steps.size();
    while (steps[next].reads.empty() && next != i)
      next = (next + 1) % steps.size();
    tape->next_reader_.push_back(next);
  }
  return tape;
}

void Tape::run() const {
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (!steps_[i].reads.empty()) read_ahead(steps_[next_reader_[i]].reads);
    steps_[i].call();
  }
  read_ahead({});
}

} // namespace mlxlm::kernels

#include "generate/sample_op.h"

#include <mlx/allocator.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>

#include <algorithm>

#include "core/check.h"
#include "runtime/threads.h"

namespace mlxlm {
namespace {

class Sample : public mx::Primitive {
 public:
  Sample(mx::Stream stream, std::vector<SamplerPtr> samplers, SampledRows out)
      : Primitive(stream),
        samplers_(std::move(samplers)),
        sampled_(std::move(out)) {}

  void eval_cpu(
      const std::vector<mx::array>& inputs,
      std::vector<mx::array>& outputs) override {
    const auto& logits = inputs[0];
    auto& ids = outputs[0];
    ids.set_data(mx::allocator::malloc(ids.nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [samplers = samplers_,
         sampled = sampled_,
         x = logits.data<float>(),
         vocab = static_cast<std::size_t>(logits.shape(1)),
         to = ids.data<std::int32_t>()] {
          parallel_for(static_cast<int>(samplers.size()), [&](int row) {
            auto drawn = samplers[row]->next({x + row * vocab, vocab});
            (*sampled)[row] = drawn;
            to[row] = std::max(drawn.token, 0);
          });
        });
  }
  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&)
      override {
    fail(ErrorKind::internal, "sample", "expected a CPU stream");
  }
  const char* name() const override {
    return "mlxlm::sample";
  }

 private:
  std::vector<SamplerPtr> samplers_;
  SampledRows sampled_;
};

} // namespace

mx::array sample(
    const mx::array& logits,
    std::vector<SamplerPtr> samplers,
    const SampledRows& out) {
  auto rows = static_cast<int>(samplers.size());
  MLXLM_CHECK(
      logits.ndim() == 2 && logits.shape(0) == rows, "a sampler for every row");
  out->assign(samplers.size(), {});
  auto stream = mx::default_stream(mx::Device::cpu);
  auto primitive = std::make_shared<Sample>(stream, std::move(samplers), out);
  return mx::array(
      mx::Shape{rows},
      mx::int32,
      std::move(primitive),
      {mx::contiguous(mx::astype(logits, mx::float32, stream), false, stream)});
}

} // namespace mlxlm

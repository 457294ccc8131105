#include "generate/sample_op.h"

#include <mlx/ops.h>

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "runtime/kernels/primitive.h"
#include "runtime/threads.h"

namespace mlxlm {
namespace {

struct Sample {
  static constexpr const char* name = "mlxlm::sample";
  std::shared_ptr<SampleJob> job;

  void eval(const kernels::Arrays& in, kernels::Arrays& out, mx::Stream stream)
      const {
    kernels::allocate(out[0]);
    kernels::dispatch(
        stream,
        [job = job,
         x = in[0].data<float>(),
         vocab = static_cast<std::size_t>(in[0].shape(1)),
         to = out[0].data<std::int32_t>()] {
          auto& samplers = job->samplers;
          parallel_for(static_cast<int>(samplers.size()), [&](int row) {
            auto drawn = samplers[row]->next({x + row * vocab, vocab});
            (*job->out)[row] = drawn;
            to[row] = std::max(drawn.token, 0);
          });
        });
  }

  kernels::Arrays reference(const kernels::Arrays&) const {
    fail(ErrorKind::internal, name, "expected no gradient of token ids");
  }
};

} // namespace

mx::array sample(const mx::array& logits, std::shared_ptr<SampleJob> job) {
  auto rows = static_cast<int>(job->samplers.size());
  MLXLM_CHECK(
      logits.ndim() == 2 && logits.shape(0) == rows, "a sampler for every row");
  job->out->assign(job->samplers.size(), {});
  auto stream = mx::default_stream(mx::Device::cpu);
  auto x =
      mx::contiguous(mx::astype(logits, mx::float32, stream), false, stream);
  return kernels::cpu_array(
      Sample{std::move(job)}, mx::Shape{rows}, mx::int32, {x});
}

} // namespace mlxlm

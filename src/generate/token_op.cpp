#include "generate/token_op.h"

#include <algorithm>
#include <utility>

#include "runtime/kernels/primitive.h"

namespace mlxlm {
namespace {

struct Tokens {
  static constexpr const char* name = "mlxlm::tokens";
  std::shared_ptr<TokenJob> job;

  void eval(const kernels::Arrays& in, kernels::Arrays& out, mx::Stream stream)
      const {
    kernels::allocate(out[0]);
    job->drawn = in.empty() ? nullptr : in[0].data<std::int32_t>();
    auto* to = out[0].data<std::int32_t>();
    kernels::dispatch(stream, [job = job, to] {
      auto* next = to;
      for (int row : job->rows)
        *next++ = job->drawn[row];
      std::copy(job->known.begin(), job->known.end(), next);
    });
  }

  kernels::Arrays reference(const kernels::Arrays&) const {
    fail(ErrorKind::internal, name, "expected no gradient of token ids");
  }
};

} // namespace

mx::array pass_tokens(
    std::shared_ptr<TokenJob> job,
    const std::optional<mx::array>& drawn) {
  kernels::Arrays in;
  if (!job->rows.empty()) in.push_back(drawn.value());
  int count = job->count();
  return kernels::cpu_array(
      Tokens{std::move(job)}, mx::Shape{1, count}, mx::int32, in);
}

} // namespace mlxlm

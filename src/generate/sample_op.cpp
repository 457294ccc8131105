#include "generate/sample_op.h"

#include <mlx/ops.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/check.h"
#include "generate/drafting/verify.h"
#include "runtime/kernels/packed_rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/threads.h"

namespace mlxlm {
namespace {

// A row for a sampler of a vocabulary of another size: what it does not know is
// left out, what the row lacks never comes.
std::span<const float> fitted(
    std::span<const float> row,
    int vocab,
    std::vector<float>& longer) {
  auto size = static_cast<std::size_t>(vocab);
  if (vocab == 0 || size == row.size()) return row;
  if (size < row.size()) return row.first(size);
  longer.assign(row.begin(), row.end());
  longer.resize(size, -std::numeric_limits<float>::infinity());
  return longer;
}

void guess(const Draw& draw, std::span<const float> row, DrawnTokens& out) {
  std::vector<float> longer;
  row = fitted(row, draw.vocab, longer);
  if (draw.kind == Draw::Kind::next) {
    out.tokens = {draw.sampler->next(row)};
    return;
  }
  auto guess = draw.sampler->guess(row);
  out.tokens = {{guess.token, 0}};
  out.from = std::move(guess.from);
}

// `row`: the first of the draw's.
void draw_from(
    const Draw& draw,
    const float* row,
    std::size_t vocab,
    DrawnTokens& out) {
  row += draw.skip * vocab;
  std::size_t rows = draw.rows() - draw.skip;
  if (rows == 1)
    guess(draw, {row, vocab}, out);
  else
    out.tokens = verify(*draw.sampler, {row, rows * vocab}, draw.draft);
}

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
         rows = in[0].shape(0),
         vocab = static_cast<std::size_t>(in[0].shape(1)),
         to = out[0].data<std::int32_t>()] {
          std::fill_n(to, rows, 0);
          auto& draws = job->draws;
          std::vector<int> first(draws.size() + 1, 0);
          for (std::size_t i = 0; i < draws.size(); ++i)
            first[i + 1] = first[i] + draws[i].rows();
          parallel_for(static_cast<int>(draws.size()), [&](int i) {
            auto& drawn = (*job->out)[i];
            draw_from(draws[i], x + first[i] * vocab, vocab, drawn);
            to[first[i + 1] - 1] = std::max(drawn.tokens.back().token, 0);
          });
        });
  }

  kernels::Arrays reference(const kernels::Arrays&) const {
    fail(ErrorKind::internal, name, "expected no gradient of token ids");
  }
};

} // namespace

mx::array sample(const mx::array& logits, std::shared_ptr<SampleJob> job) {
  int rows = 0;
  for (const auto& draw : job->draws)
    rows += draw.rows();
  MLXLM_CHECK(
      logits.ndim() == 2 && logits.shape(0) == rows, "a draw for every row");
  job->out->assign(job->draws.size(), {});
  auto stream = mx::default_stream(mx::Device::cpu);
  auto x = mx::astype(logits, mx::float32, stream);
  x = kernels::on_cpu() ? kernels::packed_rows(x)
                        : mx::contiguous(x, false, stream);
  return kernels::cpu_array(
      Sample{std::move(job)}, mx::Shape{rows}, mx::int32, {x});
}

} // namespace mlxlm

#include "generate/forward.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <utility>

#include "nn/decoder.h"

namespace mlxlm {

void Running::finish() {
  if (replay_)
    replay_->finish();
  else if (result_)
    mx::eval(*result_);
  if (borrows_) hidden_ = *hidden_ * mx::array(1, hidden_->dtype());
  if (hidden_) mx::eval(*hidden_);
}

namespace {

// Where each of `rows` stands in `keep`.
std::vector<int> places(
    const std::vector<int>& rows,
    const std::vector<int>& keep) {
  std::vector<int> out;
  for (int row : rows) {
    auto it = std::lower_bound(keep.begin(), keep.end(), row);
    out.push_back(static_cast<int>(it - keep.begin()));
  }
  return out;
}

} // namespace

namespace {

// While a pass is built, its layers know whose rows are whose.
class AdaptedPass {
 public:
  AdaptedPass(AdapterBank* bank, const PassPlan& plan) : bank_(bank) {
    if (bank) bank->sweep();
    bool any = bank &&
        std::any_of(plan.adapters.begin(), plan.adapters.end(), [](int id) {
                 return id != 0;
               });
    if (!any) {
      bank_ = nullptr;
      return;
    }
    std::vector<int> of_tokens;
    for (std::size_t i = 0; i < plan.segments.size(); ++i)
      of_tokens.insert(
          of_tokens.end(), plan.segments[i].count, plan.adapters[i]);
    bank->pass().begin(std::move(of_tokens), {plan.rows, plan.keep});
  }
  ~AdaptedPass() {
    if (bank_) bank_->pass().end();
  }
  AdaptedPass(const AdaptedPass&) = delete;
  AdaptedPass& operator=(const AdaptedPass&) = delete;

  bool active() const {
    return bank_ != nullptr;
  }

 private:
  AdapterBank* bank_;
};

} // namespace

Running Forward::start(PassPlan plan) {
  AdaptedPass adapted(adapters_.get(), plan);
  Step step(std::move(plan.segments));
  auto tokens = std::make_shared<TokenJob>(std::move(plan.tokens));
  auto samples = std::make_shared<SampleJob>();
  samples->draws = std::move(plan.draws);
  samples->out =
      std::make_shared<std::vector<DrawnTokens>>(samples->draws.size());
  Running running;
  running.drawn_ = samples->out;
  // Where every row is drawn from, one pass is like another of as many rows.
  // What adapters add is not recorded.
  bool alike = static_cast<int>(plan.rows.size()) == step.tokens &&
      !plan.hidden && !adapted.active();
  PassKind kind{step.tokens, !plan.keep.empty()};
  PassInputs inputs{
      .tokens = tokens,
      .drawn = plan.drawn,
      .tables = alike ? memory_->tables(step) : nullptr,
      .samples = samples,
      .positions = step.recorded_positions(),
      .position_array = step.positions};
  running.borrows_ = alike && kind.hidden;
  if (alike && recordings_.holds(kind)) {
    running.replay_ = recordings_.run(kind, std::move(inputs));
    const auto& result = recordings_.result(kind);
    running.result_ = result.ids;
    running.hidden_ = result.hidden;
    return running;
  }
  auto ids = pass_tokens(tokens, plan.drawn);
  Input input{.tokens = ids, .hidden = plan.hidden};
  if (!plan.keep.empty())
    running.hidden_ = model_->hidden(input, step, *memory_, plan.keep);
  auto logits = running.hidden_
      ? model_->head(take_rows(*running.hidden_, places(plan.rows, plan.keep)))
      : (*model_)(input, step, *memory_, plan.rows);
  running.result_ = plan.rows.empty() ? logits : sample(logits, samples);
  if (alike)
    recordings_.evaluate(
        {*running.result_, running.hidden_}, std::move(inputs), step);
  else if (running.hidden_)
    mx::async_eval(*running.result_, *running.hidden_);
  else
    mx::async_eval(*running.result_);
  return running;
}

} // namespace mlxlm

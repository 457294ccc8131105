#include "generate/forward.h"

#include <mlx/transforms.h>

#include <utility>

namespace mlxlm {

void Running::finish() {
  if (replay_)
    replay_->finish();
  else if (result_)
    mx::eval(*result_);
}

Running Forward::start(PassPlan plan) {
  Step step(std::move(plan.segments));
  auto tokens = std::make_shared<TokenJob>(std::move(plan.tokens));
  auto samples = std::make_shared<SampleJob>();
  samples->draws = std::move(plan.draws);
  samples->out =
      std::make_shared<std::vector<DrawnTokens>>(samples->draws.size());
  Running running;
  running.drawn_ = samples->out;
  // Where every row is drawn from, one pass is like another of as many rows.
  bool alike = static_cast<int>(plan.rows.size()) == step.tokens;
  PassInputs inputs{
      .tokens = tokens,
      .drawn = plan.drawn,
      .tables = alike ? memory_->tables(step) : nullptr,
      .samples = samples,
      .positions = step.recorded_positions(),
      .position_array = step.positions};
  if (alike && recordings_.holds(step.tokens)) {
    running.replay_ = recordings_.run(step.tokens, std::move(inputs));
    running.result_ = recordings_.ids(step.tokens);
    return running;
  }
  auto ids = pass_tokens(tokens, plan.drawn);
  auto logits = (*model_)({.tokens = ids}, step, *memory_, plan.rows);
  running.result_ = plan.rows.empty() ? logits : sample(logits, samples);
  if (alike)
    recordings_.evaluate(*running.result_, std::move(inputs), step);
  else
    mx::async_eval(*running.result_);
  return running;
}

} // namespace mlxlm

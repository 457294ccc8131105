#include "generate/prompt_scores.h"

#include <memory>
#include <utility>

#include "core/check.h"
#include "generate/container.h"
#include "generate/score.h"

namespace mlxlm {
namespace {

// Between two pieces it lies in the engine's queue.
struct ScoringUnderWay {
  PromptScoring asked;
  ScoredText text;
  std::weak_ptr<LoadedState> state;
  Engine* engine; // on which it runs
  PromptScoreLists lists = {};

  ScoringUnderWay(
      PromptScoring given,
      int context,
      std::weak_ptr<LoadedState> model,
      Engine* on)
      : asked(std::move(given)),
        text(asked.ids, context),
        state(std::move(model)),
        engine(on) {}

  void read(LoadedState& model) {
    auto& pass = model.adapters->pass();
    if (asked.adapter) {
      int count = text.next_count();
      pass.begin(std::vector<int>(count, asked.adapter->id()), {});
    }
    struct End {
      PassAdapters& pass;
      ~End() {
        pass.end();
      }
    } end{pass};
    auto rows = text.next(*model.loaded.model, *model.memory);
    ScoredText::likelihoods(rows, asked.top, lists);
  }
};

void score_piece(const std::shared_ptr<ScoringUnderWay>& scoring) {
  auto model = scoring->state.lock();
  if (!model || scoring->asked.cancelled()) return;
  std::exception_ptr error;
  try {
    scoring->read(*model);
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  model.reset();
  if (error || scoring->text.done() >= scoring->text.total())
    return scoring->asked.done(std::move(scoring->lists), error);
  scoring->engine->post([scoring] { score_piece(scoring); });
}

} // namespace

void Container::score_prompt(PromptScoring scoring) {
  check_prompt(scoring.ids);
  MLXLM_CHECK(scoring.ids.size() > 1, "a prompt of two tokens");
  auto under_way = std::make_shared<ScoringUnderWay>(
      std::move(scoring), context_, state_, engine_.get());
  engine_->post([under_way] { score_piece(under_way); });
}

void score_prompt(ModelContainer& model, PromptScoring scoring) {
  container_of(model).score_prompt(std::move(scoring));
}

} // namespace mlxlm

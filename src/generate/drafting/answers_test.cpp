// Answers drafted ahead are the answers without, on every family: guesses that
// are wrong leave no trace in pages, windows and recurrent states.
#include <gtest/gtest.h>

#include "generate/drafting/draft_model.h"
#include "generate/model_runner.h"
#include "models/families.h"
#include "models/testing.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

std::shared_ptr<const Model> random_model(
    const models::Family& family,
    std::uint64_t seed) {
  auto loader = Loader::random({.seed = seed}, {});
  return family.build(testing::config_of(family.model_type), loader->root());
}

// Drives a runner as the engine does where tokens are drafted: a pass is read
// before the next is started.
class Answers {
 public:
  Answers(
      const models::Family& family,
      bool draft_model,
      std::uint64_t draft_seed = 8)
      : model_(random_model(family, 7)),
        runner_(model_, make_memory(model_->caches(), options())) {
    if (!draft_model) return;
    auto small = random_model(family, draft_seed);
    auto memory = make_memory(small->caches(), options());
    runner_.use_draft_model(std::make_unique<DraftModel>(
        small,
        std::move(memory),
        DraftModelOptions{.vocab = model_->vocab(), .cost = 0}));
  }

  void join(
      std::uint64_t id,
      std::vector<int> prompt,
      DraftParameters draft,
      const SamplingParameters& sampling = {.temperature = 0}) {
    auto request = std::make_shared<Request>();
    request->prompt = std::move(prompt);
    request->sampling = sampling;
    request->seed = id;
    request->max_tokens = 24;
    request->draft = draft;
    request->logprobs = true;
    runner_.open(id, request);
    int size = static_cast<int>(request->prompt.size());
    // In two chunks, the second of which draws.
    step({{id, size / 2, false, false}});
    joining_.push_back({id, size - size / 2, false, true});
  }
  // Until all have 24 tokens.
  void finish() {
    while (!running_.empty() || !joining_.empty()) {
      auto pieces = std::move(joining_);
      joining_.clear();
      for (auto id : running_)
        pieces.push_back({id, 1, true, true});
      for (const auto& piece : pieces)
        if (!piece.decode) running_.push_back(piece.id);
      step(pieces);
      std::erase_if(running_, [&](std::uint64_t id) {
        if (tokens[id].size() < 24) return false;
        runner_.close(id);
        return true;
      });
    }
  }

  std::map<std::uint64_t, std::vector<int>> tokens;
  int guessed = 0, taken = 0, passes = 0;

 private:
  // Windows are shorter than what is drafted, and pages shorter still.
  static MemoryOptions options() {
    return {.dtype = mx::float32, .page_tokens = 2};
  }
  void step(const std::vector<Piece>& pieces) {
    ++passes;
    runner_.start(pieces);
    for (const auto& drawn : runner_.finish()) {
      ASSERT_EQ(drawn.error, "");
      tokens[drawn.id].push_back(drawn.token);
      guessed += drawn.guessed;
      taken += drawn.taken;
    }
  }

  std::shared_ptr<const Model> model_;
  ModelRunner runner_;
  std::vector<std::uint64_t> running_;
  std::vector<Piece> joining_;
};

constexpr DraftParameters none{.kind = DraftKind::none};
constexpr DraftParameters lookup{
    .kind = DraftKind::prompt_lookup,
    .num_tokens = 6};
constexpr DraftParameters by_model{.kind = DraftKind::model, .num_tokens = 4};

const std::vector<int> prompts[] = {
    {3, 14, 15, 9, 26, 3, 14, 15, 9, 26, 3, 14},
    {5, 35, 8, 5, 35, 8, 5},
    {1, 2, 3, 4, 5, 6, 7, 8, 9}};

class Family : public ::testing::TestWithParam<models::Family> {};

// Three sequences together, each drafted in its own way.
TEST_P(Family, GreedyAnswersStayTheSame) {
  Answers plain(GetParam(), false), drafted(GetParam(), true);
  const DraftParameters kinds[] = {lookup, by_model, none};
  for (std::uint64_t i = 0; i < 3; ++i) {
    plain.join(i, prompts[i], none);
    drafted.join(i, prompts[i], kinds[i]);
  }
  plain.finish();
  drafted.finish();
  EXPECT_GT(drafted.guessed, 0);
  EXPECT_EQ(plain.tokens, drafted.tokens);
}

// The draft model is the model: all its guesses are taken.
TEST_P(Family, GoodGuessesSavePasses) {
  Answers plain(GetParam(), false), drafted(GetParam(), true, 7);
  plain.join(1, prompts[0], none);
  drafted.join(1, prompts[0], by_model);
  plain.finish();
  drafted.finish();
  EXPECT_EQ(plain.tokens, drafted.tokens);
  EXPECT_EQ(drafted.taken, drafted.guessed);
  EXPECT_LT(drafted.passes, plain.passes / 2);
}

INSTANTIATE_TEST_SUITE_P(
    All,
    Family,
    ::testing::ValuesIn(models::families().begin(), models::families().end()),
    [](const auto& info) {
      std::string name(info.param.model_type);
      for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      return name;
    });

} // namespace
} // namespace mlxlm

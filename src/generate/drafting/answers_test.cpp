// Answers drafted ahead are the answers without, on every family: guesses that
// are wrong leave no trace in pages, windows and recurrent states.
#include <gtest/gtest.h>

#include "generate/drafting/draft_model.h"
#include "generate/drafting/prediction_drafter.h"
#include "generate/model_runner.h"
#include "models/checkpoint_testing.h"
#include "models/families.h"
#include "models/load.h"
#include "models/testing.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

// Where the family has it, with what predicts further tokens.
std::shared_ptr<const Model> random_model(
    const models::Family& family,
    std::uint64_t seed) {
  RandomWeights weights{.seed = seed};
  if (family.prediction) weights.present = testing::with_prediction;
  auto loader = Loader::random(std::move(weights), {});
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
      : Answers(random_model(family, 7)) {
    if (!draft_model) return;
    auto small = random_model(family, draft_seed);
    auto memory = make_memory(small->caches(), options());
    runner_.use_draft_model(std::make_unique<DraftModel>(
        small,
        std::move(memory),
        DraftModelOptions{.vocab = model_->vocab(), .cost = 0}));
  }

  explicit Answers(std::shared_ptr<const Model> model)
      : model_(std::move(model)),
        runner_(model_, make_memory(model_->caches(), options())) {
    const auto* module = model_->prediction();
    if (!module) return;
    runner_.use_prediction(std::make_unique<PredictionDrafter>(
        std::shared_ptr<const Model>(model_, module),
        make_memory(module->caches(), options()),
        PredictionDrafterOptions{.step_tokens = 3, .cost = 0}));
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
    cached = runner_.open(id, request);
    int left = static_cast<int>(request->prompt.size()) - cached;
    // In two chunks, the second of which draws.
    if (left > 1) step({{id, left / 2, false, false}});
    joining_.push_back({id, left - left / 2, false, true});
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
  int cached = 0; // of the last that joined

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
constexpr DraftParameters by_itself{.kind = DraftKind::mtp, .num_tokens = 4};
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

std::string test_name(const ::testing::TestParamInfo<models::Family>& info) {
  std::string name(info.param.model_type);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    All,
    Family,
    ::testing::ValuesIn(models::families().begin(), models::families().end()),
    test_name);

class Predicting : public ::testing::TestWithParam<models::Family> {};

TEST_P(Predicting, GreedyAnswersStayTheSame) {
  for (std::uint64_t count : {1, 3}) {
    Answers plain(GetParam(), false), drafted(GetParam(), false);
    for (std::uint64_t i = 0; i < count; ++i) {
      plain.join(i, prompts[i], none);
      drafted.join(i, prompts[i], i == 1 ? lookup : by_itself);
    }
    plain.finish();
    drafted.finish();
    EXPECT_GT(drafted.guessed, 0);
    EXPECT_EQ(plain.tokens, drafted.tokens);
  }
}

// What is drawn depends on the position alone where guesses are compared.
TEST_P(Predicting, DrawnAnswersStayTheSameByEquality) {
  auto draft = by_itself;
  draft.acceptance = DraftAcceptance::equality;
  Answers plain(GetParam(), false), drafted(GetParam(), false);
  plain.join(4, prompts[0], none, {.temperature = 0.8});
  drafted.join(4, prompts[0], draft, {.temperature = 0.8});
  plain.finish();
  drafted.finish();
  EXPECT_EQ(plain.tokens, drafted.tokens);
}

INSTANTIATE_TEST_SUITE_P(
    All,
    Predicting,
    ::testing::ValuesIn(testing::predicting_families()),
    test_name);

// Layers that add nothing: what follows a token depends on it alone, and a
// projection that hands on the token's half says the same.
std::shared_ptr<const Model> foreseeable(const std::string& folder) {
  const auto& family = *models::find_family("mimo");
  auto change = [](const std::string& name,
                   const Shape64& shape,
                   std::vector<float>& values) {
    bool closes =
        name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    if (closes) std::fill(values.begin(), values.end(), 0.f);
    if (name.ends_with("norm.weight"))
      std::fill(values.begin(), values.end(), 1.f);
    if (name != "prediction.proj.weight") return;
    auto rows = shape[0];
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t k = 0; k < 2 * rows; ++k)
        values[i * 2 * rows + k] = k == rows + i ? 1.f : 0.f;
  };
  testing::write_predicting_checkpoint(
      folder,
      family,
      testing::config_of("mimo").with({{"use_sliding_window", false}}),
      {},
      change);
  auto loaded =
      std::make_shared<LoadedModel>(load_model(folder, {.prediction = true}));
  return {loaded, loaded->model.get()};
}

TEST(Prediction, GoodGuessesSavePasses) {
  testing::TempFolder folder;
  auto model = foreseeable(folder.path());
  Answers plain(model), drafted(model);
  std::vector<int> prompt;
  for (int i = 0; i < 70; ++i)
    prompt.push_back(i * 7 % 64);
  // The second finds the prompt read by the first, but for its last token.
  for (std::uint64_t i : {1, 2}) {
    plain.join(i, prompt, none);
    drafted.join(i, prompt, by_itself);
    plain.finish();
    drafted.finish();
    EXPECT_EQ(plain.tokens, drafted.tokens);
  }
  EXPECT_GT(drafted.cached, 0);
  EXPECT_GT(drafted.guessed, 0);
  EXPECT_EQ(drafted.taken, drafted.guessed);
  EXPECT_LT(drafted.passes, plain.passes / 2);
}

// By chance: as many are taken as are drawn from the same distribution.
TEST(Prediction, GoodGuessesAreTakenByChanceToo) {
  testing::TempFolder folder;
  auto model = foreseeable(folder.path());
  Answers drafted(model);
  drafted.join(1, prompts[1], by_itself, {.temperature = 1});
  drafted.finish();
  EXPECT_GT(drafted.guessed, 0);
  EXPECT_EQ(drafted.taken, drafted.guessed);
}

} // namespace
} // namespace mlxlm

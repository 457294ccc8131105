// Answers drafted ahead are the answers without, on every family: guesses that
// are wrong leave no trace in pages, windows and recurrent states.
#include <gtest/gtest.h>

#include "cache/storage.h"
#include "generate/drafting/answers_testing.h"
#include "mlxlm/model.h"
#include "models/load.h"
#include "text/testing.h"

namespace mlxlm {
namespace {

using testing::Answers;
using testing::by_itself;
using testing::by_model;
using testing::lookup;
using testing::none;
using testing::plain_memory;
using testing::prompts;

class Family : public ::testing::TestWithParam<models::Family> {};

// Three sequences together, each drafted in its own way; the first two under
// the constraint.
void expect_the_same(
    const models::Family& family,
    const MemoryOptions& memory,
    const std::shared_ptr<const Constraint>& constraint = nullptr) {
  Answers plain(family, false, 8, memory), drafted(family, true, 8, memory);
  const DraftParameters kinds[] = {lookup, by_model, none};
  for (std::uint64_t i = 0; i < 3; ++i) {
    auto bound = i < 2 ? constraint : nullptr;
    plain.join(i, prompts[i], none, {.temperature = 0}, bound);
    drafted.join(i, prompts[i], kinds[i], {.temperature = 0}, bound);
  }
  plain.finish();
  drafted.finish();
  EXPECT_GT(drafted.guessed, 0);
  EXPECT_EQ(plain.tokens, drafted.tokens);
}

TEST_P(Family, GreedyAnswersStayTheSame) {
  expect_the_same(GetParam(), plain_memory);
}

TEST_P(Family, GreedyAnswersStayTheSameFromPackedMemory) {
  for (const char* scheme : {"affine8", "turbo4v3"}) {
    SCOPED_TRACE(scheme);
    auto memory = plain_memory;
    memory.storage = kv_storage(scheme, 32);
    memory.storage.start = 6; // packed while it is answered
    expect_the_same(GetParam(), memory);
  }
}

// Layers without a window have one too, with first tokens kept.
TEST_P(Family, GreedyAnswersStayTheSameWithinAWindow) {
  auto memory = plain_memory;
  memory.max_tokens = 9;
  memory.keep_tokens = 2;
  for (bool arrays : {false, true}) { // as GPUs keep them
    memory.arrays = arrays;
    expect_the_same(GetParam(), memory);
  }
}

// A token is one of the first 64 bytes. Some are forced, others chosen.
std::shared_ptr<const Constraint> digits() {
  static const auto bytes = [] {
    static text::SmallVocabulary small;
    small.gguf.tokens.resize(64);
    small.gguf.token_type.assign(64, 1);
    small.gguf.token_type[0] = 3;
    small.gguf.merges.clear();
    small.gguf.ids = {{"eos", 0}};
    return tokenizer_from_gguf(small.gguf, "bytes");
  }();
  static const auto vocabulary =
      std::make_shared<GrammarVocabulary>(*bytes, 64, std::set<int>{0});
  return std::make_shared<Constraint>(ConstraintOptions{
      .grammar = Grammar(
          vocabulary, {GrammarKind::regex, "([0-9]{1,3}: ([0-4]|<5>),)*"})});
}

TEST_P(Family, GreedyAnswersStayTheSameUnderAGrammar) {
  expect_the_same(GetParam(), plain_memory, digits());
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
  EXPECT_TRUE(inspect(folder.path()).capabilities.mtp);
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

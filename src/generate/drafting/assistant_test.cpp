// Gemma 4's assistants: answers stay what they are, and a guess is what plain
// operations make of the model's hidden state, keys and values.
#include <gtest/gtest.h>
#include <mlx/fast.h>
#include <mlx/ops.h>

#include <cmath>

#include "cache/storage.h"
#include "generate/drafting/answers_testing.h"
#include "generate/drafting/assistant_drafter.h"
#include "models/load.h"
#include "runtime/testing.h"

namespace mlxlm {
namespace {

using testing::Answers;
using testing::distance;

// Two layers, one of each kind, for a model of width 32.
Fields assistant_config(const Json& more = Json::object()) {
  auto text = testing::config_of("gemma4_text")
                  .with(
                      {{"hidden_size", 16},
                       {"num_hidden_layers", 2},
                       {"num_kv_shared_layers", 2},
                       {"layer_types", {"sliding_attention", "full_attention"}},
                       {"use_double_wide_mlp", false},
                       {"hidden_size_per_layer_input", 0},
                       {"rope_parameters",
                        {{"sliding_attention", {{"rope_theta", 10000.0}}},
                         {"full_attention", {{"rope_theta", 10000.0}}}}}})
                  .with(more);
  return Fields(
      {{"model_type", "gemma4_assistant"},
       {"backbone_hidden_size", 32},
       {"text_config", text.json()}},
      "config.json");
}

struct LoadedRandom {
  std::shared_ptr<const Model> model;
  ParameterTable table;
};

LoadedRandom random_assistant(const Fields& config) {
  auto loader = Loader::random({.seed = 9}, {});
  auto build = models::find_assistant("gemma4_assistant")->build;
  std::shared_ptr<const Model> model = build(config, loader->root());
  return {std::move(model), loader->take_table()};
}

struct AssistantCase {
  const char* model_type;
  Json more;
};
class Assistants : public ::testing::TestWithParam<AssistantCase> {};

TEST_P(Assistants, GreedyAnswersStayTheSame) {
  const auto& family = *models::find_family(GetParam().model_type);
  auto packed = testing::plain_memory, bounded = testing::plain_memory;
  packed.storage = kv_storage("affine8", 32);
  bounded.max_tokens = 9;
  bounded.keep_tokens = 2;
  for (const auto& memory : {testing::plain_memory, packed, bounded}) {
    Answers plain(family, false, 8, memory), drafted(family, false, 8, memory);
    drafted.guessed_by([](const auto& model, const auto& memory) {
      return std::make_unique<AssistantDrafter>(
          random_assistant(assistant_config(GetParam().more)).model,
          model,
          memory,
          AssistantOptions{.cost = 0});
    });
    for (std::uint64_t i = 0; i < 3; ++i) {
      plain.join(i, testing::prompts[i], testing::none);
      drafted.join(
          i, testing::prompts[i], i == 1 ? testing::lookup : testing::by_model);
    }
    plain.finish();
    drafted.finish();
    EXPECT_GT(drafted.guessed, 0);
    EXPECT_EQ(plain.tokens, drafted.tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    Assistants,
    ::testing::Values(
        AssistantCase{"gemma4_text", Json::object()},
        AssistantCase{
            "gemma4_unified_text",
            {{"attention_k_eq_v", true}, {"num_global_key_value_heads", 1}}}),
    [](const auto& info) { return std::string(info.param.model_type); });

// Of one sequence whose prompt has been read.
class Plain {
 public:
  Plain(const ParameterTable& table, SequenceMemory& sequence)
      : table_(table), sequence_(sequence) {}

  // The token guessed for a token's embedding and a hidden state [1, 32], which
  // becomes the next one.
  int guess(const mx::array& embedding, mx::array& state) const {
    auto x = times(mx::concatenate({embedding, state}, 1), "pre_projection");
    x = layer(layer(x, 0, 8, 4), 1, 16, 1000);
    x = rms(x, "model.norm");
    state = times(x, "post_projection");
    return mx::argmax(times(x, "model.embed_tokens")).item<int>();
  }

 private:
  mx::array weight(const std::string& path) const {
    for (const auto& [name, handle] : table_.entries()) {
      if (name != path) continue;
      if (const auto* param = std::get_if<Param>(&handle)) return **param;
      return std::get<Linear>(handle).kernel().dense(mx::float32);
    }
    ADD_FAILURE() << path;
    return mx::zeros({1});
  }
  mx::array times(const mx::array& x, const std::string& path) const {
    return mx::matmul(x, mx::transpose(weight(path)));
  }
  mx::array rms(const mx::array& x, const std::string& path) const {
    auto w = weight(path + ".weight");
    return x * mx::rsqrt(mx::mean(x * x, -1, true) + mx::array(1e-5f)) * w;
  }

  // Four heads of `dim` over the latest `window` tokens of the model's layer of
  // the same number; the place is the one behind them.
  mx::array attention(
      const mx::array& x,
      const std::string& at,
      int index,
      int dim,
      int window) const {
    int length = sequence_.length(), count = std::min(length, window);
    auto q = rms(mx::reshape(times(x, at + "q_proj"), {4, dim}), at + "q_norm");
    q = mx::fast::rope(
        mx::reshape(q, {1, 4, 1, dim}), dim, false, 10000.f, 1.f, length);
    auto rows = sequence_.rows(index, length - count, count, false);
    auto kept = [&](const std::vector<float>& values) {
      int heads = static_cast<int>(values.size()) / count / dim;
      mx::array a(values.data(), {count, heads, dim}, mx::float32);
      return mx::expand_dims(
          mx::repeat(mx::transpose(a, {1, 0, 2}), 4 / heads, 0), 0);
    };
    auto scores = mx::matmul(q, mx::swapaxes(kept(rows.k), -1, -2));
    auto y = mx::matmul(mx::softmax(scores, -1, true), kept(rows.v));
    return times(mx::reshape(y, {1, 4 * dim}), at + "o_proj");
  }

  mx::array layer(mx::array x, int index, int dim, int window) const {
    auto at = "model.layers." + std::to_string(index) + ".";
    auto y = attention(
        rms(x, at + "input_layernorm"), at + "self_attn.", index, dim, window);
    x = x + rms(y, at + "post_attention_layernorm");
    auto z = rms(x, at + "pre_feedforward_layernorm");
    auto gate = times(z, at + "mlp.gate_proj");
    auto cubed = gate + mx::array(0.044715f) * gate * gate * gate;
    gate = mx::array(0.5f) * gate *
        (mx::array(1.f) + mx::tanh(mx::array(0.7978845608f) * cubed));
    auto mlp = times(gate * times(z, at + "mlp.up_proj"), at + "mlp.down_proj");
    return x + rms(mlp, at + "post_feedforward_layernorm");
  }

  const ParameterTable& table_;
  SequenceMemory& sequence_;
};

TEST(Assistant, GuessesWhatPlainOperationsGive) {
  auto model = testing::random_model(*models::find_family("gemma4_text"), 7);
  std::shared_ptr<Memory> memory =
      make_memory(model->caches(), testing::plain_memory);
  auto sequence = memory->sequence();
  std::vector<int> known = {3, 14, 15, 9, 26, 5, 35};
  int read = static_cast<int>(known.size()) - 1;
  sequence->begin(read);
  Step step({{sequence.get(), 0, read, 0}});
  auto hidden = model->hidden(
      {mx::array(known.data(), {1, read}, mx::int32)},
      step,
      *memory,
      {0, 1, 2, 3, 4, 5});
  hidden.eval();
  sequence->commit(read);

  auto [assistant, table] = random_assistant(assistant_config());
  AssistantDrafter drafter(assistant, model, memory, {});
  auto state = drafter.open();
  drafter.watch(*state, std::span(known).first(read), hidden);
  Sampler sampler({.temperature = 0}, 1, known);
  DraftTask task{state.get(), known, 4, &sampler, sequence.get(), false};
  drafter.propose({&task, 1});
  EXPECT_EQ(sequence->length(), read);

  Plain plain(table, *sequence);
  auto at = mx::slice(hidden, {0, read - 1, 0}, {1, read, 32});
  auto follow = mx::reshape(at, {1, 32});
  std::vector<int> expected;
  int token = known.back();
  for (int i = 0; i < 4; ++i) {
    auto embedded = model->embed({mx::array({token}, {1, 1}, mx::int32)});
    token = plain.guess(mx::reshape(embedded, {1, 32}), follow);
    expected.push_back(token);
  }
  EXPECT_EQ(task.draft.tokens, expected);
}

// Only tokens of the clusters that fit best have logits of their own.
TEST(Assistant, ClusteredHead) {
  auto config = assistant_config().with(
      {{"use_ordered_embeddings", true},
       {"num_centroids", 8},
       {"centroid_intermediate_top_k", 2}});
  auto reversed =
      [](const std::string& name, const Shape64&, std::vector<float>& values) {
        for (std::size_t i = 0; i < values.size(); ++i)
          if (name == "masked_embedding.token_ordering")
            values[i] = static_cast<float>(values.size() - 1 - i);
      };
  testing::TempFolder folder;
  testing::write_checkpoint(
      folder.path(),
      *models::find_assistant("gemma4_assistant"),
      config,
      {},
      reversed);
  auto loaded = load_model(folder.path());
  EXPECT_TRUE(loaded.assistant);
  auto hidden = mx::sin(mx::reshape(mx::arange(0.0, 144.0), {1, 3, 48}));
  auto logits = loaded.model->head(hidden);
  mx::array clusters = mx::zeros({1}), words = clusters;
  for (const auto& [name, handle] : loaded.parameters->entries()) {
    if (name == "masked_embedding.centroids")
      clusters = std::get<Linear>(handle).kernel().dense(mx::float32);
    if (name == "model.embed_tokens")
      words = std::get<Linear>(handle).kernel().dense(mx::float32);
  }
  auto h = mx::reshape(mx::slice(hidden, {0, 0, 32}, {1, 3, 48}), {3, 16});
  auto fit = mx::matmul(h, mx::transpose(clusters));
  auto second = mx::slice(mx::sort(fit, -1), {0, 6}, {3, 7});
  // Cluster c has the tokens 63 - 8c and the seven before.
  auto owner = mx::floor_divide(mx::array(63) - mx::arange(64), mx::array(8));
  auto chosen = mx::take(mx::greater_equal(fit, second), owner, 1);
  auto all = mx::matmul(h, mx::transpose(words));
  auto high = mx::where(chosen, all, mx::array(1e30f));
  auto least = mx::min(high, -1, true) - mx::array(1.f);
  EXPECT_LT(distance(logits, mx::where(chosen, all, least)), 1e-4);
}

} // namespace
} // namespace mlxlm

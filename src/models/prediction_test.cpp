// What predicts further tokens: its maths against plain operations, and that it
// is loaded when it is asked for and only then.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cctype>

#include "models/checkpoint_testing.h"
#include "models/load.h"
#include "runtime/testing.h"

namespace mlxlm {
namespace {

using testing::distance;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TempFolder;
using testing::write_predicting_checkpoint;

Fields dense_config(std::string_view model_type) {
  return testing::config_of(model_type)
      .with(
          {{"first_k_dense_replace", 9},
           {"use_sliding_window", false},
           {"rope_theta", 10000}});
}

// NamedWeights by name.
class NamedWeights {
 public:
  explicit NamedWeights(const LoadedModel& loaded) : loaded_(loaded) {}
  mx::array operator()(const std::string& path) const {
    for (const auto& [name, handle] : loaded_.parameters->entries()) {
      if (name != path) continue;
      if (const auto* param = std::get_if<Param>(&handle)) return **param;
      return std::get<Linear>(handle).kernel().dense(mx::float32);
    }
    ADD_FAILURE() << path;
    return mx::zeros({1});
  }
  mx::array bias(const std::string& path) const {
    for (const auto& [name, handle] : loaded_.parameters->entries())
      if (const auto* linear = std::get_if<Linear>(&handle))
        if (name == path && linear->kernel().bias())
          return *linear->kernel().bias();
    return mx::zeros({1});
  }

 private:
  const LoadedModel& loaded_;
};

mx::array rms(const mx::array& x, const mx::array& weight) {
  return x * mx::rsqrt(mx::mean(x * x, -1, true) + mx::array(1e-5f)) * weight;
}

// Heads of 8, two of keys and values, RoPE over `dims` of each.
mx::array attention_by_hand(
    const NamedWeights& w,
    const mx::array& x,
    int dims) {
  std::string at = "prediction.block.self_attn.";
  int n = x.shape(0);
  auto heads = [&](const char* name, int count) {
    auto y = mx::matmul(x, mx::transpose(w(at + name))) + w.bias(at + name);
    return mx::transpose(mx::reshape(y, {1, n, count, 8}), {0, 2, 1, 3});
  };
  auto turn = [&](const mx::array& y) {
    return mx::fast::rope(y, dims, false, 10000.0f, 1.0f, 0);
  };
  auto q = turn(heads("q_proj", 4));
  auto k = mx::repeat(turn(heads("k_proj", 2)), 2, 1);
  auto v = mx::repeat(heads("v_proj", 2), 2, 1);
  auto scores = mx::matmul(q, mx::transpose(k, {0, 1, 3, 2})) /
      mx::array(std::sqrt(8.0f));
  auto past = mx::tril(mx::ones({n, n}));
  scores = mx::where(past, scores, mx::array(-1e30f));
  auto y = mx::matmul(mx::softmax(scores, -1), v);
  y = mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {n, 32});
  return mx::matmul(y, mx::transpose(w(at + "o_proj")));
}

// Logits [N, vocab] from hidden [N, 32] and the tokens after them.
mx::array by_hand(
    const NamedWeights& w,
    const mx::array& hidden,
    const mx::array& tokens,
    bool hidden_first,
    int dims,
    const std::string& head) {
  std::string at = "prediction.", block = at + "block.";
  auto token =
      rms(mx::take(w("model.embed_tokens"), tokens, 0),
          w(at + "token_norm.weight"));
  auto state = rms(hidden, w(at + "hidden_norm.weight"));
  auto both = hidden_first ? mx::concatenate({state, token}, 1)
                           : mx::concatenate({token, state}, 1);
  auto times = [&](const mx::array& x, const std::string& path) {
    return mx::matmul(x, mx::transpose(w(path)));
  };
  auto x = times(both, at + "proj");
  x = x +
      attention_by_hand(w, rms(x, w(block + "input_layernorm.weight")), dims);
  auto y = rms(x, w(block + "post_attention_layernorm.weight"));
  auto gate = times(y, block + "mlp.gate_proj");
  auto up = times(y, block + "mlp.up_proj");
  x = x + times(gate * mx::sigmoid(gate) * up, block + "mlp.down_proj");
  return times(rms(x, w(at + "norm.weight")), head);
}

struct PredictionCase {
  const char* model_type;
  bool hidden_first;
  int dims;
  const char* head;
};
class PredictionMaths : public ::testing::TestWithParam<PredictionCase> {};

TEST_P(PredictionMaths, IsWhatPlainOperationsGive) {
  mx::set_default_device(mx::Device::cpu);
  const auto& c = GetParam();
  TempFolder folder;
  const auto& family = *models::find_family(c.model_type);
  write_predicting_checkpoint(
      folder.path(),
      family,
      dense_config(c.model_type),
      [&](const std::string& name) {
        return name == "prediction.head.weight" &&
            std::string(c.head) == "lm_head";
      });
  auto loaded = load_model(folder.path(), {.prediction = true});
  const auto* module = loaded.model->prediction();
  ASSERT_NE(module, nullptr);
  auto memory = make_memory(module->caches(), {.dtype = mx::float32});
  auto sequence = memory->sequence();
  sequence->begin(6);
  Step step({{sequence.get(), 0, 6, 0}});
  auto tokens = mx::array({5, 60, 3, 3, 17, 8}, {1, 6}, mx::int32);
  auto hidden = mx::sin(mx::reshape(mx::arange(0.0, 192.0), {1, 6, 32}));
  auto logits = (*module)(
      {.tokens = tokens, .hidden = hidden}, step, *memory, {0, 1, 2, 3, 4, 5});
  auto expected = by_hand(
      NamedWeights(loaded),
      mx::reshape(hidden, {6, 32}),
      mx::reshape(tokens, {6}),
      c.hidden_first,
      c.dims,
      c.head);
  EXPECT_LT(distance(logits, expected), 1e-4);
  sequence->commit(6);
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    PredictionMaths,
    ::testing::Values(
        PredictionCase{"mimo", true, 8, "lm_head"},
        PredictionCase{"glm4_moe", false, 4, "prediction.head"}),
    [](const auto& info) { return std::string(info.param.model_type); });

class PredictionLoading : public ::testing::TestWithParam<models::Family> {};

TEST_P(PredictionLoading, OnlyWhenAskedFor) {
  mx::set_default_device(mx::Device::cpu);
  const auto& family = GetParam();
  auto config = testing::config_of(family.model_type);
  TempFolder folder;
  write_predicting_checkpoint(folder.path(), family, config);
  auto without = load_model(folder.path());
  EXPECT_EQ(without.model->prediction(), nullptr);
  for (const auto& entry : without.parameters->entries())
    EXPECT_FALSE(entry.path.starts_with("prediction")) << entry.path;
  EXPECT_TRUE(predicts(open_checkpoint(folder.path())));
  auto with = load_model(folder.path(), {.prediction = true});
  ASSERT_NE(with.model->prediction(), nullptr);
  EXPECT_EQ(with.model->prediction()->vocab(), with.model->vocab());
  EXPECT_GT(with.parameters->bytes(), without.parameters->bytes());
}

TEST_P(PredictionLoading, SaysWhatIsMissing) {
  mx::set_default_device(mx::Device::cpu);
  const auto& family = GetParam();
  auto config = testing::config_of(family.model_type);
  auto first = family.prediction(config).first;
  TempFolder none, part;
  write_predicting_checkpoint(
      none.path(), family, config, [](const std::string& name) {
        return name.starts_with("prediction.");
      });
  EXPECT_FALSE(predicts(open_checkpoint(none.path())));
  EXPECT_THAT(
      error_of([&] { load_model(none.path(), {.prediction = true}); }),
      HasSubstr(first + ": expected tensors that predict further tokens"));
  write_predicting_checkpoint(
      part.path(), family, config, [](const std::string& name) {
        return name == "prediction.proj.weight";
      });
  EXPECT_THAT(
      error_of([&] { load_model(part.path(), {.prediction = true}); }),
      HasSubstr("prediction.proj.weight"));
}

INSTANTIATE_TEST_SUITE_P(
    All,
    PredictionLoading,
    ::testing::ValuesIn(testing::predicting_families()),
    [](const auto& info) { return std::string(info.param.model_type); });

} // namespace
} // namespace mlxlm

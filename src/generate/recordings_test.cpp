// Passes done again from a recording draw what built passes draw, while
// sequences come and go.
#include <gtest/gtest.h>

#include "cache/storage.h"
#include "generate/model_runner.h"
#include "models/families.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

Json tiny() {
  return {
      {"hidden_size", 64},
      {"num_hidden_layers", 3},
      {"num_attention_heads", 4},
      {"num_key_value_heads", 2},
      {"head_dim", 16},
      {"intermediate_size", 64},
      {"vocab_size", 97},
      {"max_position_embeddings", 512},
      {"rms_norm_eps", 1e-5},
      {"tie_word_embeddings", false},
      {"sliding_window", 8},
      {"sliding_window_pattern", 2},
      {"query_pre_attn_scalar", 16},
      // Of hybrids: Qwen3-Next, Nemotron-H, LFM2.
      {"full_attention_interval", 3},
      {"linear_num_key_heads", 2},
      {"linear_num_value_heads", 4},
      {"linear_key_head_dim", 8},
      {"linear_value_head_dim", 12},
      {"hybrid_override_pattern", "M*M"},
      {"mamba_num_heads", 4},
      {"mamba_head_dim", 8},
      {"ssm_state_size", 16},
      {"n_groups", 2},
      {"conv_kernel", 4},
      {"layer_norm_epsilon", 1e-5},
      {"full_attn_idxs", {1}},
      {"norm_eps", 1e-5}};
}

class Driven {
 public:
  Driven(
      const char* family,
      Json config,
      bool record,
      const KvStorage& storage = {})
      : record_(record) {
    auto loader = Loader::random({.seed = 5}, {});
    for (const auto& f : models::families())
      if (f.model_type == family)
        model_ = f.build(Fields(config, "config.json"), loader->root());
    memory_ =
        make_memory(model_->caches(), {.page_tokens = 4, .storage = storage});
    runner_ = std::make_unique<ModelRunner>(model_, memory_);
  }

  void join(std::uint64_t id, std::vector<int> prompt, float temperature) {
    auto request = std::make_shared<Request>();
    request->prompt = std::move(prompt);
    request->sampling.temperature = temperature;
    request->seed = id;
    request->share_prefix = share;
    int read = static_cast<int>(request->prompt.size());
    runner_->open(id, request);
    joining_.push_back({id, read, false, true});
  }
  // Forgets what it has read and reads all of it again.
  void rewind(std::uint64_t id, int prompt) {
    while (started_ > read_)
      read();
    runner_->rewind(id);
    running_.erase(std::find(running_.begin(), running_.end(), id));
    int known = prompt + static_cast<int>(tokens[id].size());
    joining_.push_back({id, known - runner_->resume(id), false, true});
  }
  void leave(std::uint64_t id) {
    runner_->close(id);
    running_.erase(std::find(running_.begin(), running_.end(), id));
  }
  // One pass, started before the one before it is read.
  void step() {
    std::vector<Piece> pieces;
    for (auto id : running_)
      pieces.push_back({id, 1, true, true});
    for (auto& piece : joining_) {
      pieces.push_back(piece);
      running_.push_back(piece.id);
    }
    joining_.clear();
    if (!record_) runner_->changed();
    runner_->start(pieces);
    if (started_++ > read_) read();
  }
  void read() {
    ++read_;
    for (const auto& drawn : runner_->finish()) {
      EXPECT_EQ(drawn.error, "");
      tokens[drawn.id].push_back(drawn.token);
    }
  }
  const Recordings& recordings() const {
    return runner_->recordings();
  }

  std::map<std::uint64_t, std::vector<int>> tokens;
  bool share = true; // prefixes

 private:
  bool record_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<Memory> memory_;
  std::unique_ptr<ModelRunner> runner_;
  std::vector<std::uint64_t> running_;
  std::vector<Piece> joining_;
  int started_ = 0, read_ = 0; // passes
};

void drive(Driven& d) {
  d.join(1, {3, 14, 15, 9, 26}, 0);
  d.join(2, {5, 35, 8}, 0.9f);
  for (int i = 0; i < 12; ++i)
    d.step();
  d.join(3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 0);
  for (int i = 0; i < 9; ++i)
    d.step();
  d.leave(2);
  for (int i = 0; i < 14; ++i)
    d.step();
  d.read();
}

class Recorded : public ::testing::TestWithParam<const char*> {};

TEST_P(Recorded, DrawsWhatBuiltPassesDraw) {
  Driven built(GetParam(), tiny(), false), recorded(GetParam(), tiny(), true);
  drive(built);
  drive(recorded);
  EXPECT_EQ(built.recordings().replayed(), 0);
  EXPECT_GT(recorded.recordings().replayed(), 20);
  EXPECT_EQ(built.tokens, recorded.tokens);
}

TEST_P(Recorded, PackedPagesToo) {
  for (const char* scheme : {"affine8", "turbo4v3", "balanced"}) {
    for (int start : {0, 9}) {
      auto storage = kv_storage(scheme, 32);
      storage.start = start;
      Driven built(GetParam(), tiny(), false, storage),
          recorded(GetParam(), tiny(), true, storage);
      drive(built);
      drive(recorded);
      EXPECT_GT(recorded.recordings().replayed(), 20) << scheme;
      EXPECT_EQ(built.tokens, recorded.tokens) << scheme << " from " << start;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    Recorded,
    ::testing::Values(
        "llama",
        "qwen3",
        "mistral",
        "gemma3_text",
        "olmo2",
        "qwen3_next",
        "nemotron_h",
        "lfm2"),
    [](const auto& info) { return std::string(info.param); });

TEST_P(Recorded, WhatIsReadAgainGoesOnAsBefore) {
  Driven straight(GetParam(), tiny(), true), rewound(GetParam(), tiny(), true),
      found(GetParam(), tiny(), true);
  rewound.share = false;
  for (auto* d : {&straight, &rewound, &found}) {
    d->join(1, {3, 14, 15, 9, 26}, 0.9f);
    d->join(2, {5, 35, 8}, 0);
    for (int i = 0; i < 14; ++i)
      d->step();
    if (d != &straight) d->rewind(1, 5);
    for (int i = 0; i < 14; ++i)
      d->step();
    d->read();
  }
  EXPECT_EQ(straight.tokens[1].size(), 28u);
  EXPECT_EQ(straight.tokens, rewound.tokens);
  EXPECT_EQ(straight.tokens, found.tokens);
}

TEST(Recordings, LeavesAloneWhatDependsOnPositions) {
  // Frequencies that grow with the length are computed on the host.
  auto config = tiny();
  config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
  config["max_position_embeddings"] = 16;
  Driven built("llama", config, false), recorded("llama", config, true);
  drive(built);
  drive(recorded);
  EXPECT_EQ(recorded.recordings().replayed(), 0);
  EXPECT_EQ(built.tokens, recorded.tokens);
}

} // namespace
} // namespace mlxlm

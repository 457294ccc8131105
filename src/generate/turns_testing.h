// What tests of remembered prefixes share: small models of every kind of
// memory, and a runner driven as the engine drives it, one request at a time.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "generate/model_runner.h"
#include "models/families.h"
#include "weights/loader.h"

namespace mlxlm::turns {

constexpr int stop = 1; // ends messages

inline Json tiny_config(int head_dim) {
  return {
      {"hidden_size", 32},
      {"num_hidden_layers", 4},
      {"num_attention_heads", 4},
      {"num_key_value_heads", 2},
      {"head_dim", head_dim},
      {"intermediate_size", 32},
      {"vocab_size", 97},
      {"max_position_embeddings", 8192},
      {"rms_norm_eps", 1e-5},
      {"tie_word_embeddings", false},
      {"sliding_window", 100},
      {"sliding_window_pattern", 2},
      {"query_pre_attn_scalar", 8},
      {"hybrid_override_pattern", "M*-M"},
      {"mamba_num_heads", 4},
      {"mamba_head_dim", 8},
      {"ssm_state_size", 8},
      {"n_groups", 2},
      {"mamba_n_heads", 8},
      {"mamba_d_head", 8},
      {"mamba_d_state", 8},
      {"linear_num_key_heads", 2},
      {"linear_num_value_heads", 4},
      {"linear_key_head_dim", 32},
      {"linear_value_head_dim", 8},
      {"full_attn_idxs", {1}},
      {"block_dim", 32},
      {"conv_L_cache", 3}};
}

inline std::shared_ptr<const Model> tiny_model(
    const char* family,
    int head_dim) {
  auto loader = Loader::random({.seed = 5}, {});
  for (const auto& f : models::families())
    if (f.model_type == family)
      return f.build(
          Fields(tiny_config(head_dim), "config.json"), loader->root());
  return nullptr;
}

inline std::vector<int> random_tokens(int n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int> ids(n);
  for (auto& id : ids)
    id = 2 + static_cast<int>(random() % 95); // 1 ends messages
  return ids;
}

inline void append(std::vector<int>& to, const std::vector<int>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

struct Answer {
  int cached = 0;
  std::vector<int> tokens;
  std::vector<float> logprobs;
};

// A request at temperature 0.
inline std::shared_ptr<Request> greedy(const std::vector<int>& prompt) {
  auto request = std::make_shared<Request>();
  request->prompt = prompt;
  request->sampling.temperature = 0;
  request->stop_tokens =
      std::make_shared<const std::set<int>>(std::set<int>{stop});
  return request;
}

// `count` tokens of an answer, end tokens or not. `id`: not used before.
inline Answer ask(
    ModelRunner& runner,
    std::uint64_t id,
    const std::shared_ptr<Request>& request,
    int count) {
  Scheduler scheduler({.step_tokens = 512});
  Job job{
      .id = id,
      .prefill = static_cast<int>(request->prompt.size()),
      .new_tokens = count};
  if (auto tokens = runner.state_tokens()) {
    job.align = tokens;
    for (std::size_t i = 0; i + 1 < request->prompt.size(); ++i)
      if (request->prompt[i] == stop)
        job.ends.push_back(static_cast<int>(i) + 1);
  }
  scheduler.submit(job);
  scheduler.admit();
  Answer answer;
  answer.cached = runner.open(id, request);
  scheduler.skip(id, answer.cached);
  while (static_cast<int>(answer.tokens.size()) < count) {
    runner.start(scheduler.plan());
    for (const auto& drawn : runner.finish()) {
      EXPECT_EQ(drawn.error, "");
      answer.tokens.push_back(drawn.token);
      answer.logprobs.push_back(drawn.logprob);
    }
  }
  runner.close(id);
  return answer;
}

} // namespace mlxlm::turns

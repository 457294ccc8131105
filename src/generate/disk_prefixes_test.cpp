// What sequences leave in a folder, another runner begins with: the same
// answers as a whole reading gives, for every kind of memory.
#include <gtest/gtest.h>

#include <fstream>

#include "disk/testing.h"
#include "generate/disk_prefixes.h"
#include "generate/model_runner.h"
#include "models/families.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

Json tiny() {
  return {
      {"hidden_size", 32},
      {"num_hidden_layers", 4},
      {"num_attention_heads", 4},
      {"num_key_value_heads", 2},
      {"head_dim", 32},
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
      {"linear_num_key_heads", 2},
      {"linear_num_value_heads", 4},
      {"linear_key_head_dim", 32},
      {"linear_value_head_dim", 8},
      {"full_attn_idxs", {1}},
      {"block_dim", 32},
      {"conv_L_cache", 3}};
}

constexpr int stop = 1; // ends messages

// A runner as one process has it.
class Process {
 public:
  Process(
      const char* family,
      const std::string& folder,
      const std::string& owner = "model",
      MemoryOptions options = {}) {
    auto loader = Loader::random({.seed = 5}, {});
    for (const auto& f : models::families())
      if (f.model_type == family)
        model_ = f.build(Fields(tiny(), "config.json"), loader->root());
    auto specs = model_->caches();
    std::shared_ptr<Memory> memory = make_memory(specs, options);
    std::shared_ptr<PrefixTier> tier;
    if (!folder.empty())
      tier = std::make_shared<DiskPrefixes>(
          disk::StoreOptions{.folder = folder, .owner = owner},
          specs,
          options,
          memory);
    runner_ = std::make_unique<ModelRunner>(
        model_, memory, SequenceBudget{}, std::move(tier));
  }

  struct Answer {
    int cached = 0;
    std::vector<int> tokens;
  };
  Answer ask(const std::vector<int>& prompt, int count) {
    auto request = std::make_shared<Request>();
    request->prompt = prompt;
    request->sampling.temperature = 0;
    request->stop_tokens =
        std::make_shared<const std::set<int>>(std::set<int>{stop});
    Scheduler scheduler({.step_tokens = 512});
    Job job{
        .id = ++id_,
        .prefill = static_cast<int>(prompt.size()),
        .new_tokens = count};
    if (auto tokens = runner_->state_tokens()) {
      job.align = tokens;
      for (std::size_t i = 0; i + 1 < prompt.size(); ++i)
        if (prompt[i] == stop) job.ends.push_back(static_cast<int>(i) + 1);
    }
    scheduler.submit(job);
    scheduler.admit();
    Answer answer;
    answer.cached = runner_->open(id_, request);
    scheduler.skip(id_, answer.cached);
    while (static_cast<int>(answer.tokens.size()) < count) {
      runner_->start(scheduler.plan());
      for (const auto& drawn : runner_->finish())
        answer.tokens.push_back(drawn.token);
    }
    runner_->close(id_);
    return answer;
  }

 private:
  std::shared_ptr<const Model> model_;
  std::unique_ptr<ModelRunner> runner_;
  std::uint64_t id_ = 0;
};

std::vector<int> random_tokens(int n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int> ids(n);
  for (auto& id : ids)
    id = 2 + static_cast<int>(random() % 95);
  return ids;
}

void append(std::vector<int>& to, const std::vector<int>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

class OnDisk : public testing::TestWithParam<const char*> {};

TEST_P(OnDisk, AfterARestartOnlyWhatIsNewIsRead) {
  disk::Folder folder;
  auto text = random_tokens(700, 1);
  {
    Process first(GetParam(), folder.path());
    auto answer = first.ask(text, 20);
    EXPECT_EQ(answer.cached, 0);
    append(text, answer.tokens);
  }
  append(text, random_tokens(30, 2));
  auto whole = Process(GetParam(), "").ask(text, 8);
  {
    Process second(GetParam(), folder.path());
    auto answer = second.ask(text, 8);
    EXPECT_EQ(answer.cached, 719); // the last token drawn was never read
    EXPECT_EQ(answer.tokens, whole.tokens);
  }
  // The same once more: it begins where the second's prompt ended or before.
  Process third(GetParam(), folder.path());
  auto answer = third.ask(text, 8);
  EXPECT_GE(answer.cached, 704);
  EXPECT_EQ(answer.tokens, whole.tokens);
}

TEST_P(OnDisk, AnotherModelsAndDamagedEntriesAreMisses) {
  disk::Folder folder;
  auto text = random_tokens(400, 1);
  Process(GetParam(), folder.path()).ask(text, 4);
  append(text, random_tokens(10, 2));
  auto whole = Process(GetParam(), "").ask(text, 8);
  Process other(GetParam(), folder.path(), "another model");
  auto theirs = other.ask(text, 8);
  EXPECT_EQ(theirs.cached, 0);
  EXPECT_EQ(theirs.tokens, whole.tokens);
  auto files = folder.entries();
  for (std::size_t i = 0; i < files.size(); i += 2)
    std::filesystem::resize_file(files[i], 100);
  Process second(GetParam(), folder.path());
  EXPECT_EQ(second.ask(text, 8).tokens, whole.tokens);
}

TEST_P(OnDisk, ConversationsShareTheirFirstMessage) {
  disk::Folder folder;
  auto one = random_tokens(270, 1);
  one.push_back(stop);
  auto other = one;
  append(one, random_tokens(20, 2));
  append(other, random_tokens(30, 3));
  Process(GetParam(), folder.path()).ask(one, 4);
  Process second(GetParam(), folder.path());
  auto answer = second.ask(other, 8);
  EXPECT_GE(answer.cached, 256);
  EXPECT_LE(answer.cached, 271);
  EXPECT_EQ(answer.tokens, Process(GetParam(), "").ask(other, 8).tokens);
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    OnDisk,
    testing::Values(
        "llama",
        "gemma3_text",
        "qwen3_5_text",
        "nemotron_h",
        "lfm2"),
    [](const auto& info) { return std::string(info.param); });

TEST(DiskPrefixes, AffineCodesComeBackAsTheyWere) {
  using kernels::RowCodec;
  RowCodec codec{RowCodec::Kind::affine, 8, 32};
  MemoryOptions packed{.storage = {.keys = codec, .values = codec}};
  disk::Folder folder;
  auto text = random_tokens(400, 1);
  Process::Answer live;
  { // what is under way to the disk arrives before it ends
    Process first("llama", folder.path(), "model", packed);
    append(text, first.ask(text, 20).tokens);
    append(text, random_tokens(20, 2));
    live = first.ask(text, 8);
    EXPECT_GT(live.cached, 400);
  }
  Process second("llama", folder.path(), "model", packed);
  auto answer = second.ask(text, 8);
  EXPECT_GE(answer.cached, live.cached); // the second question is there too
  EXPECT_EQ(answer.tokens, live.tokens);
  RowCodec turbo{RowCodec::Kind::turbo, 4};
  MemoryOptions rounds{.storage = {.keys = turbo, .values = turbo}};
  EXPECT_THROW(Process("llama", folder.path(), "model", rounds), Error);
}

} // namespace
} // namespace mlxlm

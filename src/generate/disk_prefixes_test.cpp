// What sequences leave in a folder, another runner begins with: the same
// answers as a whole reading gives, for every kind of memory.
#include <gtest/gtest.h>

#include <fstream>

#include "disk/testing.h"
#include "generate/disk_prefixes.h"
#include "generate/turns_testing.h"

namespace mlxlm {
namespace {

using turns::Answer;
using turns::append;
using turns::random_tokens;
using turns::stop;

// A runner as one process has it.
class Process {
 public:
  Process(
      const char* family,
      const std::string& folder,
      const std::string& owner = "model",
      MemoryOptions options = {}) {
    model_ = turns::tiny_model(family, 32);
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

  Answer ask(const std::vector<int>& prompt, int count) {
    auto request = turns::greedy(prompt);
    request->logprobs = true;
    return turns::ask(*runner_, ++id_, request, count);
  }

 private:
  std::shared_ptr<const Model> model_;
  std::unique_ptr<ModelRunner> runner_;
  std::uint64_t id_ = 0;
};

class OnDisk : public ::testing::TestWithParam<const char*> {
 protected:
  static void expect_same(const Answer& a, const Answer& b) {
    EXPECT_EQ(a.tokens, b.tokens);
    ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
    for (std::size_t i = 0; i < a.logprobs.size(); ++i)
      EXPECT_NEAR(a.logprobs[i], b.logprobs[i], 1e-4) << i;
  }
};

TEST_P(OnDisk, AfterARestartOnlyWhatIsNewIsRead) {
  disk::Folder folder;
  auto text = random_tokens(4000, 1);
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
    EXPECT_EQ(answer.cached, 4019); // the last token drawn was never read
    expect_same(answer, whole);
  }
  // The same once more: it begins where the second's prompt ended or before.
  Process third(GetParam(), folder.path());
  auto answer = third.ask(text, 8);
  EXPECT_GE(answer.cached, 4019 / 64 * 64);
  expect_same(answer, whole);
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
    ::testing::Values(
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
  Answer live;
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

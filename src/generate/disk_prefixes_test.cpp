// What sequences leave in a folder, another runner begins with: the same
// answers as a whole reading gives, for every kind of memory.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "cache/storage.h"
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

// What a process that never ends answers to a second question, one answers that
// has begun with what another left.
void expect_same_after_restart(const char* family, MemoryOptions options) {
  disk::Folder folder;
  auto text = random_tokens(400, 1);
  Process living(family, "", "model", options);
  auto first = living.ask(text, 20);
  Process(family, folder.path(), "model", options).ask(text, 20);
  append(text, first.tokens);
  append(text, random_tokens(20, 2));
  auto live = living.ask(text, 8);
  auto again = Process(family, folder.path(), "model", options).ask(text, 8);
  EXPECT_GE(again.cached, 384);
  EXPECT_EQ(again.tokens, live.tokens);
  EXPECT_EQ(again.logprobs, live.logprobs);
}

class PackedOnDisk : public ::testing::TestWithParam<const char*> {};

TEST_P(PackedOnDisk, PagesComeBackAsTheyWere) {
  for (const char* family : {"llama", "gemma3_text", "qwen3_5_text"})
    for (bool arrays : {false, true}) {
      SCOPED_TRACE(fmt::format("{} in arrays: {}", family, arrays));
      expect_same_after_restart(
          family, {.arrays = arrays, .storage = kv_storage(GetParam(), 32)});
    }
}

INSTANTIATE_TEST_SUITE_P(
    Schemes,
    PackedOnDisk,
    ::testing::Values("affine8", "turbo4v3", "turbo3", "turbo4v3q", "turbo4+"),
    [](const auto& info) {
      std::string name = info.param;
      std::replace(name.begin(), name.end(), '+', 'p');
      return name;
    });

TEST(DiskPrefixes, PagesOfAnotherSchemeAreMisses) {
  disk::Folder folder;
  auto text = random_tokens(200, 1);
  for (const char* scheme : {"turbo4", "turbo3", "affine8"}) {
    MemoryOptions options{.storage = kv_storage(scheme, 32)};
    auto alone = Process("llama", "", "model", options).ask(text, 8);
    Process taught("llama", folder.path(), "model", options);
    auto answer = taught.ask(text, 8);
    EXPECT_EQ(answer.cached, 0) << scheme;
    EXPECT_EQ(answer.tokens, alone.tokens) << scheme;
    std::vector<int> more = text;
    append(more, random_tokens(40, 2));
    taught.ask(more, 2);
  }
}

} // namespace
} // namespace mlxlm

// Prefixes are found, shared and let go of: real pages, no model.
#include "generate/prefix_store.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <numeric>

#include "core/check.h"

namespace mlxlm {
namespace {

std::vector<int> counted(int n, int from = 0) {
  std::vector<int> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), from);
  return out;
}

std::vector<int> joined(std::vector<int> a, const std::vector<int>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Reads tokens whose rows are their ids; the last one's attention is the mean
// of the ids seen.
float read(Memory& memory, SequenceMemory& s, const std::vector<int>& ids) {
  int n = int(ids.size());
  Step step({{&s, 0, n, s.length()}});
  std::vector<float> values(ids.begin(), ids.end());
  auto v =
      mx::reshape(mx::array(values.data(), {n, 1}, mx::float32), {1, n, 1, 1});
  v = mx::broadcast_to(v, {1, n, 1, 8});
  auto zero = mx::zeros({1, n, 1, 8});
  auto out = mx::contiguous(memory.layer(0).attend(step, zero, zero, v, {}));
  out.eval();
  s.commit(n);
  return out.data<float>()[std::size_t(n - 1) * 8];
}

class PrefixStores : public ::testing::Test {
 protected:
  void use(MemoryOptions options) {
    options.dtype = mx::float32;
    options.page_tokens = 4;
    memory_ = make_memory({FullKv{1, 8}}, options);
    store_ = std::make_unique<PrefixStore>(memory_);
  }
  void SetUp() override {
    use({});
  }
  float go_on(SequenceMemory& s, const std::vector<int>& ids) {
    store_->begin(s, int(ids.size()));
    return read(*memory_, s, ids);
  }
  // A sequence that reads all it does not find; how much it found.
  int ask(const std::vector<int>& ids, std::uint64_t key = 0) {
    auto found = store_->find(ids, key);
    auto s = found ? std::move(found->memory) : memory_->sequence();
    int known = s->length();
    float mean = go_on(*s, {ids.begin() + known, ids.end()});
    EXPECT_NEAR(
        mean,
        std::accumulate(ids.begin(), ids.end(), 0.f) / ids.size(),
        1e-3f * mean);
    store_->insert(ids, *s, key);
    return known;
  }
  std::size_t pages() const {
    return memory_->bytes() / (memory_->bytes_for(1));
  }
  std::shared_ptr<Memory> memory_;
  std::unique_ptr<PrefixStore> store_;
};

TEST_F(PrefixStores, FindTheLongestAndLeaveATokenToRead) {
  ask(counted(20));
  ask(counted(40));
  auto found = store_->find(counted(30));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->length, 29);
  EXPECT_EQ(found->memory->length(), 29);
  EXPECT_FLOAT_EQ(go_on(*found->memory, {29}), 14.5f);
  // What is kept is as it was.
  auto again = store_->find(counted(60));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->length, 40);
  EXPECT_FLOAT_EQ(go_on(*again->memory, {40}), 20);
}

TEST_F(PrefixStores, OthersAndShortOnesAreNotFound) {
  ask(counted(40));
  EXPECT_FALSE(store_->find(counted(40, 1)));
  EXPECT_FALSE(store_->find(counted(8)));
  auto known = store_->tree().figures().pages;
  ask(counted(5, 90));
  EXPECT_EQ(store_->tree().figures().pages, known);
}

TEST_F(PrefixStores, AnotherKeyIsAnotherText) {
  ask(counted(40), 7);
  EXPECT_FALSE(store_->find(counted(50)));
  EXPECT_EQ(store_->find(counted(50), 7)->length, 40);
}

TEST_F(PrefixStores, PagesAreShared) {
  ask(counted(40));
  auto one = memory_->bytes();
  {
    auto found = store_->find(counted(41));
    EXPECT_EQ(memory_->bytes(), one);
  }
  store_->clear();
  EXPECT_EQ(memory_->bytes(), 0u);
}

// Two who read the same without knowing of each other have it once as soon as
// both are told of.
TEST_F(PrefixStores, WhatTwoHaveReadApartIsThereOnce) {
  auto a = memory_->sequence(), b = memory_->sequence();
  go_on(*a, counted(42));
  go_on(*b, counted(42));
  EXPECT_EQ(pages(), 22u);
  auto first = store_->insert(counted(40), *a);
  auto second = store_->insert(counted(40), *b);
  EXPECT_EQ(pages(), 12u); // ten of both, and the end of each
  EXPECT_FLOAT_EQ(go_on(*a, {42}), 21);
  EXPECT_FLOAT_EQ(go_on(*b, {42}), 21);
  a.reset();
  b.reset();
  EXPECT_EQ(pages(), 10u);
}

// Room is made page by page from the end of what was used least recently.
TEST_F(PrefixStores, AConversationLosesItsEndFirst) {
  auto page = memory_->bytes_for(1);
  use({.max_bytes = 30 * page});
  ask(counted(80)); // twenty pages
  ask(counted(52, 100)); // thirteen: three are missing
  EXPECT_LE(memory_->bytes(), 30 * page);
  EXPECT_EQ(store_->find(counted(90))->length, 17 * 4);
}

// Many conversations behind one system prompt, in a memory that holds few.
TEST_F(PrefixStores, ASystemPromptOutlivesItsConversations) {
  auto page = memory_->bytes_for(1);
  use({.max_bytes = 20 * page});
  auto system = counted(40);
  ask(joined(system, counted(24, 1000)));
  for (int i = 2; i < 40; ++i) {
    EXPECT_EQ(ask(joined(system, counted(24, 1000 * i))), 40) << i;
    EXPECT_LE(memory_->bytes(), 20 * page);
  }
}

// Even what runs with them may take the memory of kept pages.
TEST_F(PrefixStores, WhatRunsComesFirst) {
  auto page = memory_->bytes_for(1);
  use({.max_bytes = 20 * page});
  ask(counted(40));
  auto found = store_->find(counted(41)); // pins ten pages
  auto other = memory_->sequence();
  EXPECT_FLOAT_EQ(go_on(*other, counted(40, 100)), 119.5f);
  EXPECT_EQ(store_->find(counted(41))->length, 40);
  EXPECT_THROW(go_on(*found->memory, {40}), Error); // really full
  other.reset();
  EXPECT_FLOAT_EQ(go_on(*found->memory, {40}), 20);
}

} // namespace
} // namespace mlxlm

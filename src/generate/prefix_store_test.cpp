// Prefixes are found, shared and let go of.
#include "generate/prefix_store.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <numeric>

namespace mlxlm {
namespace {

std::vector<int> counted(int n, int from = 0) {
  std::vector<int> out(n);
  std::iota(out.begin(), out.end(), from);
  return out;
}

// Reads tokens whose rows are their ids; the last one's attention is the mean
// of the ids seen.
float read(Memory& memory, SequenceMemory& s, const std::vector<int>& ids) {
  int n = int(ids.size());
  s.begin(n);
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
  void keep(const std::vector<int>& ids) {
    auto s = memory_->sequence();
    read(*memory_, *s, ids);
    store_.insert(ids, std::move(s));
  }
  std::shared_ptr<Memory> memory_ =
      make_memory({FullKv{1, 8}}, {.dtype = mx::float32, .page_tokens = 4});
  PrefixStore store_{3};
};

TEST_F(PrefixStores, FindTheLongestAndLeaveATokenToRead) {
  keep(counted(20));
  keep(counted(40));
  auto found = store_.find(counted(30));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->length, 29);
  EXPECT_EQ(found->memory->length(), 29);
  EXPECT_FLOAT_EQ(read(*memory_, *found->memory, {29}), 14.5f);
  // The store's own is as it was.
  auto again = store_.find(counted(60));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->length, 40);
  EXPECT_FLOAT_EQ(read(*memory_, *again->memory, {40}), 20);
}

TEST_F(PrefixStores, OthersAndShortOnesAreNotFound) {
  keep(counted(40));
  EXPECT_FALSE(store_.find(counted(40, 1)));
  EXPECT_FALSE(store_.find(counted(8)));
  keep(counted(5));
  EXPECT_EQ(store_.size(), 1u);
}

TEST_F(PrefixStores, AnotherKeyIsAnotherText) {
  auto s = memory_->sequence();
  read(*memory_, *s, counted(40));
  store_.insert(counted(40), std::move(s), 7);
  EXPECT_FALSE(store_.find(counted(50)));
  EXPECT_EQ(store_.find(counted(50), 7)->length, 40);
}

TEST_F(PrefixStores, AgreeWithLookingAtAll) {
  PrefixStore store(40);
  unsigned random = 1;
  auto below = [&](unsigned n) {
    return int((random = random * 1664525 + 1013904223) >> 8) % int(n);
  };
  std::vector<std::vector<int>> texts;
  for (int i = 0; i < 60; ++i) {
    // Branches of earlier texts.
    std::vector<int> text;
    if (i > 0) {
      text = texts[below(i)];
      text.resize(below(text.size() + 1));
    }
    for (int n = 1 + below(50); n > 0; --n)
      text.push_back(below(3));
    auto found = store.find(text);
    int most = 0;
    for (std::size_t k = texts.size() > 40 ? 40 : texts.size(); k > 0; --k) {
      auto& other = texts[texts.size() - k];
      auto end =
          std::mismatch(other.begin(), other.end(), text.begin(), text.end());
      most = std::max(most, int(end.first - other.begin()));
    }
    most = std::min(most, int(text.size()) - 1);
    if (i < 40) {
      EXPECT_EQ(found ? found->length : 0, most < 16 ? 0 : most) << i;
    }
    auto s = memory_->sequence();
    read(*memory_, *s, text);
    store.insert(text, std::move(s));
    texts.push_back(text);
  }
  EXPECT_LE(store.size(), 40u);
  store.clear();
  EXPECT_EQ(memory_->bytes(), 0u);
}

TEST_F(PrefixStores, PagesAreSharedAndTheLeastUsedGoFirst) {
  keep(counted(40));
  auto one = memory_->bytes();
  auto found = store_.find(counted(41));
  EXPECT_EQ(memory_->bytes(), one);
  keep(counted(40, 100));
  keep(counted(40, 200));
  EXPECT_TRUE(store_.find(counted(30))); // used
  keep(counted(40, 300));
  EXPECT_TRUE(store_.find(counted(30)));
  EXPECT_FALSE(store_.find(counted(30, 100)));
  found.reset();
  while (store_.evict()) {
  }
  EXPECT_EQ(memory_->bytes(), 0u);
}

} // namespace
} // namespace mlxlm

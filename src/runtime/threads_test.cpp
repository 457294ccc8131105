#include "runtime/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "runtime/processors.h"

namespace mlxlm {
namespace {

struct Threads : ::testing::TestWithParam<int> {
  void SetUp() override {
    set_thread_count(GetParam());
  }
  void TearDown() override {
    set_thread_count(usable_processors());
  }
};

TEST_P(Threads, RunsEveryItemOnce) {
  EXPECT_EQ(thread_count(), GetParam());
  for (int count : {0, 1, 2, 3, 17, 1000}) {
    std::vector<std::atomic<int>> seen(count);
    parallel_for(count, [&](int i) { seen[i]++; });
    for (auto& n : seen) {
      EXPECT_EQ(n.load(), 1);
    }
  }
}

TEST_P(Threads, ManyShortJobs) {
  std::atomic<long> sum{0};
  for (int job = 0; job < 20000; job++) {
    parallel_for(1 + job % 5, [&](int i) { sum += i + 1; });
  }
  EXPECT_EQ(sum.load(), 4000 * (1 + 3 + 6 + 10 + 15));
}

TEST_P(Threads, WakesAfterSleeping) {
  std::atomic<int> sum{0};
  for (int job = 0; job < 5; job++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    parallel_for(8, [&](int) { sum++; });
  }
  EXPECT_EQ(sum.load(), 40);
}

TEST_P(Threads, NestedRunsInline) {
  std::atomic<int> sum{0};
  parallel_for(4, [&](int) {
    auto self = std::this_thread::get_id();
    parallel_for(4, [&](int) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      sum++;
    });
  });
  EXPECT_EQ(sum.load(), 16);
}

TEST_P(Threads, SeveralCallers) {
  std::atomic<int> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; c++) {
    callers.emplace_back([&] {
      for (int job = 0; job < 200; job++) {
        parallel_for(4, [&](int) { sum++; });
      }
    });
  }
  for (auto& caller : callers) {
    caller.join();
  }
  EXPECT_EQ(sum.load(), 3 * 200 * 4);
}

INSTANTIATE_TEST_SUITE_P(Counts, Threads, ::testing::Values(1, 2, 3, 5));

TEST(Processors, AtLeastOne) {
  EXPECT_GE(usable_processors(), 1);
}

} // namespace
} // namespace mlxlm

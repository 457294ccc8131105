#include "runtime/memory/results.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <optional>
#include <random>

namespace mlxlm::kernels {
namespace {

constexpr std::size_t mega = std::size_t{1} << 20;

std::shared_ptr<ResultMemory> memory(std::size_t keep) {
  return std::make_shared<ResultMemory>(keep);
}

mx::array bytes(ResultMemory& memory, std::size_t count) {
  mx::array x(mx::Shape{static_cast<int>(count)}, mx::uint8, nullptr, {});
  memory.allocate(x);
  return x;
}

TEST(ResultMemory, NobodyWritesOverAnother) {
  auto all = memory(0);
  struct One {
    mx::array x;
    std::uint8_t value;
  };
  std::vector<One> alive;
  std::mt19937 random(1);
  std::size_t live = 0;
  for (int i = 0; i < 3000; ++i) {
    auto size = std::size_t(random() % (i % 7 == 0 ? 300000 : 3000));
    auto x = bytes(*all, size);
    auto value = static_cast<std::uint8_t>(i);
    std::memset(x.data<std::uint8_t>(), value, size);
    auto at = reinterpret_cast<std::uintptr_t>(x.data<std::uint8_t>());
    EXPECT_EQ(at % 64, 0u);
    live += size;
    alive.push_back({x, value});
    while (live > 3 * mega) {
      auto& gone = alive[random() % alive.size()];
      live -= gone.x.size();
      const auto* data = gone.x.data<std::uint8_t>();
      for (std::size_t k = 0; k < gone.x.size(); ++k)
        ASSERT_EQ(data[k], gone.value);
      std::swap(gone, alive.back());
      alive.pop_back();
    }
    // What is cut is joined again.
    ASSERT_LE(all->held(), 8 * mega);
  }
  alive.clear();
  EXPECT_EQ(all->held(), 0u);
}

TEST(ResultMemory, KeepsWhatItWasToldTo) {
  auto all = memory(8 * mega);
  {
    auto a = bytes(*all, 3 * mega), b = bytes(*all, 3 * mega),
         c = bytes(*all, 30 * mega);
    EXPECT_EQ(all->held(), 40 * mega);
  }
  EXPECT_EQ(all->held(), 8 * mega);
  EXPECT_EQ(all->unused(), 8 * mega);
  all->release();
  EXPECT_EQ(all->held(), 0u);
}

TEST(ResultMemory, AViewKeepsItsPiece) {
  auto all = memory(0);
  std::optional<mx::array> view;
  {
    auto x = bytes(*all, 1000);
    std::memset(x.data<std::uint8_t>(), 7, 1000);
    view = mx::array(x);
  }
  EXPECT_EQ(all->held() - all->unused(), 1024u);
  EXPECT_EQ(view->data<std::uint8_t>()[999], 7);
  view.reset();
  EXPECT_EQ(all->held(), 0u);
}

TEST(ResultMemory, StartedOverWhatIsLetGoLateChangesNothing) {
  auto all = memory(std::numeric_limits<std::size_t>::max());
  std::optional<mx::array> late = bytes(*all, mega);
  all->start_over();
  EXPECT_EQ(all->unused(), all->held());
  auto x = bytes(*all, mega); // where the other was
  EXPECT_EQ(x.data<std::uint8_t>(), late->data<std::uint8_t>());
  late.reset();
  auto y = bytes(*all, mega);
  EXPECT_NE(x.data<std::uint8_t>(), y.data<std::uint8_t>());
  EXPECT_EQ(all->held(), 4 * mega);
}

TEST(ResultMemory, OutlivesWhoMadeIt) {
  std::optional<mx::array> x;
  {
    auto all = memory(0);
    x = bytes(*all, 100);
  }
  x->data<std::uint8_t>()[99] = 1;
}

} // namespace
} // namespace mlxlm::kernels

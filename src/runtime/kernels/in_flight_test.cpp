#include "runtime/kernels/in_flight.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace mlxlm::kernels {
namespace {

TEST(InFlight, WaitsUntilTwoCallsAreLeft) {
  InFlight flight;
  for (int i = 0; i < 5; ++i)
    flight.begin(100);
  std::atomic<int> ended = 0;
  std::thread worker([&] {
    for (int i = 0; i < 3; ++i) {
      ++ended;
      flight.end();
    }
  });
  flight.wait([] { return std::size_t(151); }, 50);
  EXPECT_EQ(ended, 3);
  worker.join();
}

TEST(InFlight, WaitsOnlyForMemory) {
  InFlight flight;
  for (int i = 0; i < 5; ++i)
    flight.begin(100 + 10 * i); // what rests is what the first call saw
  flight.wait([] { return std::size_t(150); }, 50);
  std::atomic<std::size_t> active = 151;
  std::thread worker([&] {
    active = 150;
    flight.end();
  });
  flight.wait([&] { return active.load(); }, 50);
  worker.join();
}

TEST(InFlight, IsOfItsThread) {
  auto here = InFlight::here();
  EXPECT_EQ(here, InFlight::here());
  std::shared_ptr<InFlight> there;
  std::thread([&] { there = InFlight::here(); }).join();
  EXPECT_NE(here, there);
}

} // namespace
} // namespace mlxlm::kernels

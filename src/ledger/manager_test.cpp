// The rules of mlx-swift's manager, and those that are ours: order and events.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "ledger/testing.h"
#include "mlxlm/error.h"

namespace mlxlm {
namespace {

using Kind = WiredEvent::Kind;
using Outcome = WiredStart::Outcome;
using namespace std::chrono_literals;

class WiredMemoryTest : public ::testing::Test {
 protected:
  WiredMemoryPtr manager(WiredSettings settings = {}) {
    return make_wired_memory(backend_, settings);
  }
  WiredMemoryPtr without_limit(std::int64_t baseline) {
    backend_->has_limit = false;
    return manager({.baseline_override = baseline});
  }
  static std::vector<Kind> kinds(WiredEvents& events) {
    std::vector<Kind> kinds;
    while (auto event = events.next())
      kinds.push_back(event->kind);
    return kinds;
  }
  // Waits in the background; what became of it goes to the list.
  static void queue(
      WiredMemory& wired,
      const WiredTicket& ticket,
      std::vector<std::pair<std::uint64_t, Outcome>>& told) {
    auto start = wired.start_async(ticket, [&, id = ticket.id](auto& s) {
      told.emplace_back(id, s.outcome);
    });
    ASSERT_EQ(start.outcome, Outcome::waiting);
  }

  std::shared_ptr<FakeBackend> backend_ = std::make_shared<FakeBackend>();
};

TEST_F(WiredMemoryTest, GrowsAndRestoresTheBaseline) {
  auto wired = manager();
  auto a = make_ticket(100, sum_policy()), b = make_ticket(50, sum_policy());
  EXPECT_EQ(wired->start(a).limit, 100);
  EXPECT_EQ(wired->start(b).limit, 150);
  EXPECT_EQ(wired->end(a), 150); // shrinking waits
  EXPECT_EQ(wired->end(b), 0);
  EXPECT_EQ(backend_->applied, (std::vector<std::int64_t>{100, 150, 0}));
}

TEST_F(WiredMemoryTest, ShrinksByAQuarterAndAfterASecond) {
  auto wired = manager();
  auto a = make_ticket(100, sum_policy()), b = make_ticket(20, sum_policy()),
       c = make_ticket(100, sum_policy());
  wired->start(a);
  wired->start(b);
  wired->start(c);
  backend_->time += 10s;
  EXPECT_EQ(wired->end(b), 220); // a drop of 9 %
  EXPECT_EQ(wired->start(b).limit, 220);
  EXPECT_EQ(wired->end(c), 120);
  wired->start(c);
  backend_->time += 999ms;
  EXPECT_EQ(wired->end(c), 220); // too soon
  wired->start(c);
  backend_->time += 1ms;
  EXPECT_EQ(wired->end(c), 120);
  EXPECT_EQ(wired->end(a), 120);
  EXPECT_EQ(wired->end(b), 0); // the last restores at once
}

TEST_F(WiredMemoryTest, TheLargestGroupDecides) {
  auto wired = manager();
  wired->start(make_ticket(100, max_policy()));
  EXPECT_EQ(wired->start(make_ticket(80, sum_policy())).limit, 100);
  EXPECT_EQ(wired->start(make_ticket(80, sum_policy())).limit, 160);
  EXPECT_EQ(wired->start(make_ticket(1, fixed_policy(500))).limit, 500);
}

TEST_F(WiredMemoryTest, ReservationsCountButRaiseNothingAlone) {
  auto wired = manager();
  auto weights = make_ticket(70, sum_policy(100), WiredKind::reservation);
  EXPECT_EQ(wired->start(weights).limit, 0);
  auto small = make_ticket(30, sum_policy(100));
  auto large = make_ticket(31, sum_policy(100));
  EXPECT_TRUE(wired->could_fit(small));
  EXPECT_FALSE(wired->could_fit(large));
  EXPECT_EQ(wired->start(small).limit, 100);
  EXPECT_EQ(wired->status().reserved_bytes, 70);
  EXPECT_EQ(wired->status().active_bytes, 30);
  EXPECT_EQ(wired->end(small), 0);
  EXPECT_EQ(wired->status().reservations, 1);
  EXPECT_EQ(wired->end(weights), 0);
}

TEST_F(WiredMemoryTest, TicketsAreIdempotent) {
  auto wired = manager();
  auto events = wired->events();
  auto ticket = make_ticket(10, sum_policy());
  EXPECT_EQ(wired->start(ticket).outcome, Outcome::started);
  EXPECT_EQ(wired->start(ticket).outcome, Outcome::ignored);
  EXPECT_EQ(wired->status().active_bytes, 10);
  wired->end(ticket);
  wired->end(ticket);
  EXPECT_EQ(
      kinds(*events),
      (std::vector<Kind>{
          Kind::baseline_captured,
          Kind::admission_granted,
          Kind::ticket_started,
          Kind::limit_computed,
          Kind::limit_applied,
          Kind::ticket_start_ignored,
          Kind::ticket_ended,
          Kind::limit_applied,
          Kind::baseline_restored,
          Kind::ticket_end_ignored}));
  EXPECT_EQ(wired->start(ticket).outcome, Outcome::started); // and again
}

TEST_F(WiredMemoryTest, EventsSayWhatHappened) {
  auto wired = manager({.baseline_override = 7});
  auto events = wired->events();
  auto ticket = make_ticket(-10, sum_policy(100));
  wired->start(ticket);
  auto first = events->next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->sequence, 1u);
  EXPECT_EQ(first->baseline, 7);
  EXPECT_FALSE(first->ticket);
  auto granted = events->next();
  EXPECT_EQ(granted->ticket, ticket.id);
  EXPECT_EQ(granted->size, 0);
  EXPECT_EQ(granted->policy, "sum 100");
  EXPECT_EQ(to_string(granted->kind), "admission_granted");
  EXPECT_EQ(events->next()->active, 1);
}

TEST_F(WiredMemoryTest, WaitsForRoomInOrder) {
  auto wired = without_limit(0);
  auto policy = sum_policy(100);
  auto running = make_ticket(60, policy);
  wired->start(running);
  auto large = make_ticket(80, policy), small = make_ticket(10, policy),
       third = make_ticket(30, policy);
  std::vector<std::pair<std::uint64_t, Outcome>> told;
  queue(*wired, large, told);
  queue(*wired, small, told); // would fit, but came later
  queue(*wired, third, told);
  EXPECT_TRUE(told.empty());
  wired->end(running);
  using Told = std::vector<std::pair<std::uint64_t, Outcome>>;
  EXPECT_EQ(
      told, (Told{{large.id, Outcome::started}, {small.id, Outcome::started}}));
  wired->end(large);
  EXPECT_EQ(told.back().first, third.id);
  EXPECT_EQ(wired->status().waiting, 0);
}

TEST_F(WiredMemoryTest, GroupsDoNotHoldUpEachOther) {
  auto wired = without_limit(0);
  wired->start(make_ticket(100, sum_policy(100)));
  std::vector<std::pair<std::uint64_t, Outcome>> told;
  queue(*wired, make_ticket(1, sum_policy(100)), told);
  auto other = make_ticket(1, sum_policy(101));
  EXPECT_EQ(wired->start(other).outcome, Outcome::started);
}

TEST_F(WiredMemoryTest, WhatNeverFitsLetsOthersPass) {
  auto wired = without_limit(0);
  std::vector<std::pair<std::uint64_t, Outcome>> told;
  auto impossible = make_ticket(101, sum_policy(100));
  queue(*wired, impossible, told);
  EXPECT_EQ(
      wired->start(make_ticket(100, sum_policy(100))).outcome,
      Outcome::started);
  wired->cancel(impossible);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].second, Outcome::cancelled);
}

TEST_F(WiredMemoryTest, CancellingLetsTheNextIn) {
  auto wired = without_limit(0);
  auto policy = sum_policy(100);
  wired->start(make_ticket(60, policy));
  std::vector<std::pair<std::uint64_t, Outcome>> told;
  auto large = make_ticket(80, policy), small = make_ticket(10, policy);
  queue(*wired, large, told);
  queue(*wired, small, told);
  wired->end(large); // ending one that waits is cancelling
  using Told = std::vector<std::pair<std::uint64_t, Outcome>>;
  EXPECT_EQ(
      told,
      (Told{{large.id, Outcome::cancelled}, {small.id, Outcome::started}}));
  EXPECT_EQ(wired->status().active, 2);
}

TEST_F(WiredMemoryTest, ResizingAsksThePolicy) {
  auto wired = without_limit(0);
  auto policy = sum_policy(100);
  auto a = make_ticket(40, policy), b = make_ticket(40, policy);
  wired->start(a);
  wired->start(b);
  EXPECT_FALSE(wired->resize(a, 61));
  EXPECT_EQ(wired->status().active_bytes, 80);
  EXPECT_TRUE(wired->resize(a, 60));
  std::vector<std::pair<std::uint64_t, Outcome>> told;
  queue(*wired, make_ticket(20, policy), told);
  EXPECT_TRUE(wired->resize(b, 20));
  EXPECT_EQ(told.size(), 1u);
  EXPECT_FALSE(wired->resize(make_ticket(1, policy), 1)); // not started
}

TEST_F(WiredMemoryTest, BlockingStartWithDeadlineAndCancel) {
  backend_->has_limit = false;
  auto wired = manager();
  auto policy = sum_policy(100);
  auto running = make_ticket(100, policy), late = make_ticket(1, policy);
  wired->start(running);
  auto soon = std::chrono::steady_clock::now() + 20ms;
  EXPECT_EQ(wired->start(late, soon).outcome, Outcome::expired);
  EXPECT_EQ(wired->status().waiting, 0);
  EXPECT_THROW(WiredHold(wired, late, soon), Error);

  std::thread other([&] {
    while (wired->status().waiting == 0)
      std::this_thread::yield();
    wired->cancel(late);
  });
  EXPECT_EQ(wired->start(late).outcome, Outcome::cancelled);
  other.join();
  std::thread ends([&] {
    while (wired->status().waiting == 0)
      std::this_thread::yield();
    wired->end(running);
  });
  EXPECT_EQ(wired->start(late).outcome, Outcome::started);
  ends.join();
}

TEST_F(WiredMemoryTest, AHoldEndsWhateverHappens) {
  auto wired = manager();
  auto ticket = make_ticket(10, sum_policy());
  try {
    WiredHold hold(wired, ticket);
    EXPECT_EQ(wired->status().active, 1);
    {
      WiredHold again(wired, ticket); // the same ticket: not ended by it
    }
    EXPECT_EQ(wired->status().active, 1);
    throw std::runtime_error("work failed");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(wired->status().active, 0);
}

TEST_F(WiredMemoryTest, WithoutAWiredLimitOnlyAdmissionIsLeft) {
  backend_->has_limit = false;
  backend_->recommended = 500;
  auto wired = manager();
  EXPECT_EQ(wired->start(make_ticket(10, max_policy())).limit, 500);
  EXPECT_TRUE(backend_->applied.empty());

  auto nothing = manager({.policy_only_when_unsupported = false});
  auto ticket = make_ticket(1000, sum_policy(1));
  EXPECT_EQ(nothing->start(ticket).outcome, Outcome::unsupported);
  EXPECT_EQ(nothing->end(ticket), 0);
  EXPECT_TRUE(nothing->resize(ticket, 5));
}

TEST_F(WiredMemoryTest, ARefusedLimitIsReportedAndTriedAgain) {
  auto wired = manager();
  auto events = wired->events();
  backend_->refuses = true;
  wired->start(make_ticket(10, sum_policy()));
  EXPECT_EQ(kinds(*events).back(), Kind::limit_apply_failed);
  backend_->refuses = false;
  EXPECT_EQ(wired->start(make_ticket(10, sum_policy())).limit, 20);
  EXPECT_EQ(wired->start(make_ticket(1, fixed_policy(-1))).limit, 20);
}

TEST_F(WiredMemoryTest, SettingsChangeOnlyAtRest) {
  auto wired = manager();
  auto ticket = make_ticket(10, sum_policy(10));
  wired->start(ticket);
  EXPECT_THROW(wired->configure({}), Error);
  wired->end(ticket);
  wired->configure({.baseline_override = 3});
  EXPECT_EQ(wired->start(make_ticket(4, sum_policy(10))).limit, 7);
}

TEST_F(WiredMemoryTest, ASlowReaderLosesTheOldestOnly) {
  auto wired = without_limit(0);
  auto events = wired->events();
  auto ticket = make_ticket(1, max_policy());
  for (int i = 0; i < 1000; ++i) {
    wired->start(ticket);
    wired->end(ticket);
  }
  auto first = events->next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->sequence, events->missed() + 1);
  EXPECT_GT(events->missed(), 1000u);
  std::uint64_t last = first->sequence;
  while (auto event = events->next())
    EXPECT_EQ(event->sequence, ++last);
}

// Many threads on little room: nothing is exceeded, everybody gets through, and
// a reader sees whole events only.
TEST_F(WiredMemoryTest, ManyThreads) {
  backend_->has_limit = false;
  auto wired = manager();
  auto policy = sum_policy(80);
  std::atomic<int> used{0}, most{0};
  std::atomic<bool> done{false};
  std::thread reader([&] {
    auto events = wired->events();
    while (!done)
      if (auto event = events->next()) {
        EXPECT_LE(static_cast<int>(event->kind), 11);
        EXPECT_LE(event->size.value_or(0), 20);
      }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 100; ++i) {
        int size = 1 + static_cast<int>(random() % 20);
        auto ticket = make_ticket(size, policy);
        auto soon = std::chrono::steady_clock::now() + 100us;
        bool hurried = random() % 4 == 0;
        auto start =
            hurried ? wired->start(ticket, soon) : wired->start(ticket);
        if (!hurried) {
          EXPECT_EQ(start.outcome, Outcome::started);
        }
        if (start.outcome != Outcome::started) continue;
        int now = used += size;
        for (int seen = most; now > seen;)
          most.compare_exchange_weak(seen, now);
        std::this_thread::yield();
        used -= size;
        wired->end(ticket);
      }
    });
  for (auto& thread : threads)
    thread.join();
  done = true;
  reader.join();
  EXPECT_LE(most, 80);
  EXPECT_EQ(wired->status().active, 0);
}

} // namespace
} // namespace mlxlm

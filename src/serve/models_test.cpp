// The table of models with engines that are none: no thread, no real time.
#include "serve/models.h"

#include <gtest/gtest.h>

#include "ledger/testing.h"
#include "serve/testing.h"

namespace mlxlm::serve {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t mb = 1000000;

class NamedEngine final : public Engine {
 public:
  NamedEngine(EngineFacts facts, std::size_t weights)
      : facts_(std::move(facts)), weights_(weights) {}
  const EngineFacts& facts() const override {
    return facts_;
  }
  const TextCodec& codec() const override {
    return codec_;
  }
  GenerationPtr start(Job, std::function<void()>) override {
    return nullptr;
  }
  ResponseFormat forced_call(const std::string&, const std::string&, bool)
      const override {
    return {};
  }
  MemoryFigures memory() override {
    return {.weights = weights_};
  }

 private:
  EngineFacts facts_;
  testing::ByteCodec codec_;
  std::size_t weights_;
};

// A table over models of 10, 20 and 30 MB.
struct Shelf {
  explicit Shelf(std::size_t budget_mb = 0) {
    for (const char* name : {"a", "b", "c"}) {
      EngineFacts facts;
      facts.model = name;
      facts.bytes = (options.models.size() + 1) * 10 * mb;
      options.models.push_back({facts, {std::string(name) + "-alias"}});
    }
    options.adapters = {"french"};
    options.load = [this](
                       const EngineFacts& facts,
                       const std::string& with,
                       const EnginePtr&) {
      loads.push_back(facts.model + (with.empty() ? "" : "+" + with));
      if (fails) fail(ErrorKind::weights, "file", "expected it whole");
      return std::make_shared<NamedEngine>(facts, weighs);
    };
    options.now = [this] { return time; };
    options.thread = false;
    if (budget_mb > 0) {
      memory = make_wired_memory(std::make_shared<FakeBackend>(device()));
      options.memory = memory;
      options.budget = budget_mb * mb;
      options.group = sum_policy(static_cast<std::int64_t>(options.budget));
    }
  }
  static FakeBackend device() {
    FakeBackend out;
    out.has_limit = false;
    return out;
  }
  Models& table() {
    if (!made) made = std::make_unique<Models>(options);
    return *made;
  }
  // Loaded and let go.
  void use(const std::string& name, std::optional<KeepAlive> keep = {}) {
    hold(name, keep);
  }
  EnginePtr hold(const std::string& name, std::optional<KeepAlive> keep = {}) {
    auto taken = table().take({name, {}, keep}, {});
    if (taken.engine) return taken.engine;
    table().work();
    EXPECT_TRUE(taken.loading->over());
    return taken.loading->engine();
  }
  std::string loaded() {
    std::string out;
    for (const auto& state : table().states())
      if (state.loaded)
        out += state.facts.model +
            (state.adapter.empty() ? "" : "+" + state.adapter);
    return out;
  }

  Models::Clock::time_point time{1h};
  std::vector<std::string> loads;
  bool fails = false;
  std::size_t weighs = 0; // 0: as its files say
  WiredMemoryPtr memory;
  ModelsOptions options;
  std::unique_ptr<Models> made;
};

int status_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const ApiError& error) {
    return error.status;
  }
  return 0;
}

TEST(ModelTable, TenWhoAskLoadItOnce) {
  Shelf shelf;
  std::vector<LoadingPtr> waiting;
  int woken = 0;
  for (int i = 0; i < 10; ++i) {
    auto taken = shelf.table().take({"b"}, [&] { ++woken; });
    ASSERT_FALSE(taken.engine);
    waiting.push_back(taken.loading);
  }
  EXPECT_FALSE(waiting[0]->over());
  shelf.table().work();
  EXPECT_EQ(shelf.loads, std::vector<std::string>{"b"});
  EXPECT_EQ(woken, 10);
  for (auto& one : waiting) {
    ASSERT_TRUE(one->over());
    EXPECT_EQ(one->engine()->facts().model, "b");
  }
  EXPECT_TRUE(shelf.table().take({"b"}, {}).engine);
}

TEST(ModelTable, AFailureIsToldToAllAndCanBeTriedAgain) {
  Shelf shelf(100);
  shelf.fails = true;
  auto one = shelf.table().take({"a"}, {}), two = shelf.table().take({"a"}, {});
  shelf.table().work();
  for (auto& taken : {one, two})
    EXPECT_THROW(taken.loading->engine(), Error);
  EXPECT_EQ(shelf.memory->status().reserved_bytes, 0);
  shelf.fails = false;
  EXPECT_TRUE(shelf.hold("a"));
  EXPECT_EQ(shelf.loads.size(), 2u);
}

TEST(ModelTable, WhoHasLeftIsNotLoadedFor) {
  Shelf shelf;
  shelf.table().take({"a"}, {});
  shelf.table().work();
  EXPECT_TRUE(shelf.loads.empty());
}

TEST(ModelTable, TheLeastRecentlyUsedIdleOneGoes) {
  Shelf shelf(45);
  shelf.use("a");
  shelf.use("b");
  shelf.use("a"); // so that b is older
  EXPECT_EQ(shelf.loaded(), "ab");
  shelf.use("c"); // 30 of 45: a alone may stay
  EXPECT_EQ(shelf.loaded(), "ac");
  EXPECT_EQ(shelf.memory->status().reserved_bytes, std::int64_t(40 * mb));
}

TEST(ModelTable, OneInUseStaysAndTheOtherWaitsForItsEnd) {
  Shelf shelf(45);
  auto held = shelf.hold("b");
  auto wanted = shelf.table().take({"c"}, {});
  shelf.table().work();
  EXPECT_FALSE(wanted.loading->over());
  EXPECT_EQ(shelf.loaded(), "b");
  held.reset();
  shelf.table().work();
  ASSERT_TRUE(wanted.loading->over());
  EXPECT_EQ(shelf.loaded(), "c");
}

TEST(ModelTable, PatienceEnds) {
  Shelf shelf(45);
  auto held = shelf.hold("b");
  auto wanted = shelf.table().take({"c"}, {});
  shelf.table().work();
  shelf.time += shelf.options.patience;
  shelf.table().work();
  ASSERT_TRUE(wanted.loading->over());
  try {
    wanted.loading->engine();
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 503);
    EXPECT_GT(error.retry_after, 0);
  }
  EXPECT_EQ(shelf.loaded(), "b");
}

TEST(ModelTable, WhatNeverFitsIsToldWithItsSizeAndUnloadsNobody) {
  Shelf shelf(25);
  shelf.use("a");
  auto wanted = shelf.table().take({"c"}, {});
  shelf.table().work();
  try {
    wanted.loading->engine();
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 503);
    EXPECT_EQ(error.retry_after, 0);
    EXPECT_NE(error.message.find("30.0 MB"), std::string::npos)
        << error.message;
    EXPECT_NE(error.message.find("25.0 MB"), std::string::npos);
  }
  EXPECT_EQ(shelf.loaded(), "a");
}

TEST(ModelTable, WhatALoadedOneReallyTakesCounts) {
  Shelf shelf(45);
  shelf.use("a");
  shelf.weighs = 40 * mb; // twice what the files told
  shelf.use("b");
  EXPECT_EQ(shelf.loaded(), "b");
  EXPECT_EQ(shelf.memory->status().reserved_bytes, std::int64_t(40 * mb));
  shelf.weighs = 50 * mb;
  EXPECT_EQ(status_of([&] { shelf.use("a"); }), 503);
  EXPECT_EQ(shelf.memory->status().reserved_bytes, 0);
  shelf.weighs = 40 * mb;
  shelf.use("b");
  EXPECT_EQ(status_of([&] { shelf.use("a"); }), 503);
  EXPECT_EQ(shelf.loaded(), "b"); // its size is known now
}

TEST(ModelTable, SequencesOfOthersHoldMemory) {
  Shelf shelf(45);
  auto sequence = make_ticket(20 * mb, shelf.options.group);
  shelf.memory->start(sequence);
  auto wanted = shelf.table().take({"c"}, {});
  auto again = shelf.table().work();
  EXPECT_FALSE(wanted.loading->over());
  EXPECT_LE(again, shelf.time + 1s); // looks again soon
  shelf.memory->end(sequence);
  shelf.table().work();
  EXPECT_TRUE(wanted.loading->over());
}

TEST(ModelTable, IdleOnesAreUnloadedInTime) {
  Shelf shelf;
  shelf.use("a");
  auto held = shelf.hold("b");
  EXPECT_EQ(shelf.table().work(), shelf.time + 5min);
  shelf.time += 5min - 1ms;
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "ab");
  shelf.time += 1ms;
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "b"); // in use
  held.reset(); // the time counts from here
  shelf.time += 5min - 1ms;
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "b");
  shelf.time += 1ms;
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "");
}

TEST(ModelTable, ARequestSaysHowLong) {
  Shelf shelf;
  shelf.use("a", KeepAlive());
  shelf.use("b", KeepAlive(0ms));
  shelf.use("c", KeepAlive(1h));
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "ac");
  EXPECT_FALSE(shelf.table().state({"a"}).left);
  EXPECT_EQ(shelf.table().state({"c"}).left, 1h);
  shelf.time += 30min;
  EXPECT_EQ(shelf.table().state({"c"}).left, 30min);
  shelf.use("c"); // keeps what was said before
  EXPECT_EQ(shelf.table().state({"c"}).left, 1h);
  shelf.time += 1h;
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "a");
  shelf.use("c"); // loaded anew: nothing was said
  EXPECT_EQ(shelf.table().state({"c"}).left, 5min);
  shelf.table().unload({"a"});
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "c");
}

TEST(ModelTable, LookingIsNoUse) {
  Shelf shelf;
  shelf.use("a");
  shelf.time += 5min;
  EXPECT_EQ(shelf.table().loaded().at(0)->facts().model, "a");
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "");
  EXPECT_TRUE(shelf.table().loaded().empty());
}

TEST(ModelTable, Names) {
  Shelf shelf;
  for (const char* good : {"a", "a-alias", "a:latest", "", "default_model"})
    EXPECT_EQ(shelf.table().state({good}).facts.model, "a") << good;
  for (const char* bad : {"A", "d", "../a", "/etc/passwd", "a/", "a+german"})
    EXPECT_EQ(status_of([&] { shelf.table().take({bad}, {}); }), 404) << bad;
  EXPECT_EQ(status_of([&] { shelf.table().take({"a", "../x"}, {}); }), 404);
}

TEST(ModelTable, NoDefault) {
  Shelf shelf;
  shelf.options.first_is_default = false;
  EXPECT_EQ(status_of([&] { shelf.table().take({""}, {}); }), 400);
  shelf.made.reset();
  shelf.options.any_name = true;
  EXPECT_EQ(shelf.table().state({"gpt-4"}).facts.model, "a");
}

TEST(ModelTable, AnAdapterMakesAModelOfItsOwn) {
  Shelf shelf(45);
  auto plain = shelf.hold("a");
  shelf.weighs = 10 * mb;
  auto taken = shelf.table().take({"a", "french"}, {});
  shelf.table().work();
  auto tuned = taken.loading->engine();
  EXPECT_NE(tuned, plain);
  EXPECT_EQ(shelf.table().take({"a+french"}, {}).engine, tuned);
  EXPECT_EQ(shelf.loaded(), "aa+french");
  EXPECT_EQ(shelf.memory->status().reserved_bytes, std::int64_t(20 * mb));
  EXPECT_EQ(shelf.table().states().size(), 4u);
}

// One model in memory under all its adapters; it goes when they have gone.
TEST(ModelTable, AnAdapterKeepsItsModel) {
  Shelf shelf(45);
  auto load = shelf.options.load;
  shelf.options.load = [&](const EngineFacts& facts,
                           const std::string& adapter,
                           const EnginePtr& base) {
    EXPECT_EQ(base != nullptr, !adapter.empty());
    shelf.weighs = adapter.empty() ? 0 : mb;
    return load(facts, adapter, base);
  };
  auto taken = shelf.table().take({"a", "french"}, {});
  shelf.table().work();
  ASSERT_TRUE(taken.loading->over());
  EXPECT_EQ(shelf.loads, (std::vector<std::string>{"a", "a+french"}));
  EXPECT_EQ(shelf.memory->status().reserved_bytes, std::int64_t(11 * mb));
  taken = {};
  // `a` is older than the adapter, which holds it.
  shelf.use("c");
  EXPECT_EQ(shelf.loaded(), "aca+french");
  shelf.time += 10min;
  shelf.table().work();
  shelf.table().work();
  EXPECT_EQ(shelf.loaded(), "");
}

TEST(ModelTable, AnAdapterOfAModelThatCannotBeLoaded) {
  Shelf shelf;
  shelf.fails = true;
  for (int i = 0; i < 2; ++i) {
    auto taken = shelf.table().take({"a", "french"}, {});
    shelf.table().work();
    ASSERT_TRUE(taken.loading->over());
    EXPECT_THROW(taken.loading->engine(), Error);
  }
  shelf.fails = false;
  auto taken = shelf.table().take({"a", "french"}, {});
  shelf.table().work();
  EXPECT_NE(taken.loading->engine(), nullptr);
}

TEST(ModelTable, AnswersOutliveTheTable) {
  Shelf shelf;
  auto held = shelf.hold("a");
  auto waiting = shelf.table().take({"b"}, {});
  shelf.made.reset();
  EXPECT_EQ(held->facts().model, "a");
  EXPECT_EQ(status_of([&] { waiting.loading->engine(); }), 503);
}

// With its own thread: only that nothing is lost, torn or loaded twice.
TEST(ModelTable, ManyThreads) {
  Shelf shelf(45);
  std::atomic<int> inside{0}, worst{0};
  shelf.options.now = Models::Clock::now;
  shelf.options.thread = true;
  shelf.options.load =
      [&](const EngineFacts& facts, const std::string&, const EnginePtr&) {
        worst = std::max<int>(worst, ++inside);
        --inside;
        return std::make_shared<NamedEngine>(facts, 0);
      };
  shelf.table();
  std::atomic<int> right{0};
  std::vector<std::thread> users;
  for (int t = 0; t < 4; ++t)
    users.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        std::string name(1, static_cast<char>('a' + (i + t) % 3));
        auto engine = shelf.table().load({name, {}, KeepAlive(0ms)});
        right += engine->facts().model == name;
      }
    });
  for (auto& user : users)
    user.join();
  EXPECT_EQ(right, 200);
  EXPECT_EQ(worst, 1);
}

TEST(KeepAlives, AsOllamaWritesThem) {
  auto ms = [](auto value) {
    auto out = parse_keep_alive(value);
    if (!out) return -2.0;
    return *out ? double((*out)->count()) : -1.0;
  };
  using View = std::string_view;
  EXPECT_EQ(ms(View("5m")), 300000);
  EXPECT_EQ(ms(View("1h30m")), 5400000);
  EXPECT_EQ(ms(View("1.5s")), 1500);
  EXPECT_EQ(ms(View("300ms")), 300);
  EXPECT_EQ(ms(View("0")), 0);
  EXPECT_EQ(ms(View("-1")), -1);
  EXPECT_EQ(ms(View("-5m")), -1);
  EXPECT_EQ(ms(View("60")), 60000);
  EXPECT_EQ(ms(Json(-1)), -1);
  EXPECT_EQ(ms(Json(0)), 0);
  EXPECT_EQ(ms(Json(2.5)), 2500);
  EXPECT_EQ(ms(Json("24h")), 86400000);
  EXPECT_EQ(ms(Json(1e30)), -1);
  for (const char* bad :
       {"", "-", "m", "5x", "5m3", "1..5s", ".", "5 m", "1e3s", "--1", "nan"})
    EXPECT_EQ(ms(View(bad)), -2) << bad;
  EXPECT_EQ(ms(Json(true)), -2);
  EXPECT_EQ(ms(Json::array()), -2);
}

} // namespace
} // namespace mlxlm::serve

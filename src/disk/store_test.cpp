#include "disk/store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "disk/index.h"
#include "disk/testing.h"
#include "mlxlm/error.h"

namespace mlxlm::disk {
namespace {

StoreOptions options(const Folder& folder, std::uint64_t most = 1 << 20) {
  return {.folder = folder.path(), .owner = "model", .max_bytes = most};
}

void put(Store& store, int number, std::size_t bytes = 1000) {
  EXPECT_TRUE(store.put(key_of(number), payload_of(number, bytes)));
}

void overwrite(const std::string& path, std::string_view with) {
  std::ofstream(path, std::ios::binary) << with;
}

TEST(DiskStore, FindsWhatWasPutAtOnceAndAfterARestart) {
  Folder folder;
  {
    Store store(options(folder));
    for (int i = 0; i < 20; ++i)
      put(store, i);
    for (int i = 0; i < 20; ++i)
      EXPECT_EQ(store.get(key_of(i)), payload_of(i, 1000));
    EXPECT_FALSE(store.get(key_of(99)));
    EXPECT_FALSE(store.has(key_of(99)));
  }
  Store store(options(folder));
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(store.get(key_of(i)), payload_of(i, 1000));
  store.flush();
  EXPECT_EQ(store.figures().entries, 20u);
  EXPECT_EQ(store.figures().hits, 20u);
}

TEST(DiskStore, TheSameEntryIsWrittenOnce) {
  Folder folder;
  Store store(options(folder));
  for (int i = 0; i < 5; ++i) {
    put(store, 1);
    store.flush();
  }
  EXPECT_EQ(store.figures().written, 1u);
}

TEST(DiskStore, ReplacesWhatIsThere) {
  Folder folder;
  Store store(options(folder));
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(store.replace(key_of(1), payload_of(i, 1000 + i)));
    EXPECT_EQ(store.get(key_of(1)), payload_of(i, 1000 + i));
  }
  store.flush();
  EXPECT_EQ(store.get(key_of(1)), payload_of(49, 1049));
  EXPECT_EQ(store.figures().entries, 1u);
}

TEST(DiskStore, OthersEntriesAreMisses) {
  Folder folder;
  {
    Store store(options(folder));
    put(store, 1);
  }
  auto theirs = options(folder);
  theirs.owner = "another model";
  Store store(theirs);
  EXPECT_FALSE(store.get(key_of(1)));
  // Nor when a file of theirs has our name.
  std::filesystem::rename(
      folder.entries().at(0),
      folder.path() + "/" + EntryFolder::name(key_of(1), "another model"));
  EXPECT_FALSE(store.get(key_of(1)));
  // Nor another entry's under this one's name.
  put(store, 2);
  store.flush();
  std::filesystem::rename(
      folder.entries().at(0),
      folder.path() + "/" + EntryFolder::name(key_of(3), "another model"));
  EXPECT_FALSE(store.get(key_of(3)));
}

TEST(DiskStore, ACorruptEntryIsAMissAndGoes) {
  Folder folder;
  Store store(options(folder));
  put(store, 1);
  store.flush();
  auto path = folder.entries().at(0);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(200);
    file.put('x').put('y').put('z');
  }
  EXPECT_FALSE(store.get(key_of(1)));
  store.flush();
  EXPECT_TRUE(folder.entries().empty());
  put(store, 1);
  EXPECT_EQ(store.get(key_of(1)), payload_of(1, 1000));
  store.flush();
  std::filesystem::resize_file(path, 500);
  EXPECT_FALSE(store.get(key_of(1)));
  store.flush();
  overwrite(path, "");
  EXPECT_FALSE(store.get(key_of(1)));
  store.flush();
  std::filesystem::create_directory(path);
  EXPECT_FALSE(store.get(key_of(1)));
}

TEST(DiskStore, KeepsToItsSizeByLastUse) {
  Folder folder;
  Store store(options(folder, 10000));
  for (int i = 0; i < 8; ++i) {
    put(store, i);
    store.flush();
  }
  EXPECT_TRUE(store.get(key_of(0))); // used again
  store.flush();
  put(store, 8);
  put(store, 9);
  store.flush();
  EXPECT_TRUE(store.get(key_of(0)));
  EXPECT_FALSE(store.get(key_of(1)));
  EXPECT_TRUE(store.get(key_of(9)));
  auto figures = store.figures();
  EXPECT_LE(figures.bytes, 10000u);
  EXPECT_EQ(figures.evicted, 10 - figures.entries);
  EXPECT_FALSE(store.put(key_of(50), payload_of(50, 10000))); // never fits
}

TEST(DiskStore, ASmallerLimitHoldsFromTheStart) {
  Folder folder;
  {
    Store store(options(folder));
    for (int i = 0; i < 10; ++i)
      put(store, i);
  }
  Store store(options(folder, 5000));
  store.flush();
  EXPECT_LE(store.figures().bytes, 5000u);
  EXPECT_EQ(folder.entries().size(), store.figures().entries);
}

TEST(DiskStore, TheQueueIsBounded) {
  Folder folder;
  auto small = options(folder);
  small.max_queue_bytes = 3000;
  Store store(small);
  EXPECT_FALSE(store.put(key_of(1), payload_of(1, 3001)));
  int taken = 0;
  for (int i = 0; i < 1000; ++i)
    taken += store.put(key_of(i), payload_of(i, 1000));
  EXPECT_GE(taken, 3);
  store.flush();
  auto figures = store.figures();
  EXPECT_EQ(figures.written + figures.evicted, figures.written);
  EXPECT_EQ(figures.dropped, 1001u - taken);
  EXPECT_EQ(figures.entries, static_cast<std::uint64_t>(taken));
}

TEST(DiskStore, TheIndexIsMadeAgain) {
  Folder folder;
  {
    Store store(options(folder));
    for (int i = 0; i < 10; ++i)
      put(store, i);
  }
  auto index = folder.path() + "/index.sqlite";
  auto works = [&](const char* what) {
    Store store(options(folder));
    store.flush();
    EXPECT_EQ(store.figures().entries, 10u) << what;
    EXPECT_EQ(store.get(key_of(3)), payload_of(3, 1000)) << what;
  };
  std::filesystem::remove(index);
  works("gone");
  overwrite(index, "this is no database, but it is long enough to be read");
  works("something else");
  overwrite(index, "");
  works("empty");
  std::filesystem::resize_file(index, 5000);
  works("cut off");
  std::string page(100000, 'x');
  overwrite(index, std::string("SQLite format 3\0", 16) + page);
  works("damaged");
  std::filesystem::remove(index);
  sqlite3* db = nullptr;
  sqlite3_open(index.c_str(), &db);
  sqlite3_exec(
      db, "CREATE TABLE entries(a); PRAGMA user_version=1", 0, 0, nullptr);
  sqlite3_close(db);
  works("other columns");
  std::filesystem::remove(index);
  std::filesystem::create_directory(index);
  works("a folder");
}

TEST(DiskStore, ANameInTheIndexLeadsNowhereElse) {
  Folder folder, other;
  auto victim = other.path() + "/precious.entry";
  overwrite(victim, "mine");
  {
    Store store(options(folder));
    put(store, 1);
  }
  sqlite3* db = nullptr;
  sqlite3_open((folder.path() + "/index.sqlite").c_str(), &db);
  auto sql = "INSERT INTO entries VALUES('../" +
      std::filesystem::path(other.path()).filename().string() +
      "/precious.entry', 99999999, 0)";
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), 0, 0, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EntryFolder files(folder.path());
  Index index(files);
  EXPECT_NE(index.oldest().find("precious"), std::string::npos);
  files.remove(index.oldest());
  EXPECT_TRUE(std::filesystem::exists(victim));
  Store store(options(folder));
  store.flush();
  EXPECT_EQ(store.figures().entries, 1u);
}

TEST(DiskStore, WhatAKilledWriterLeftIsSweptAway) {
  Folder folder;
  overwrite(folder.path() + "/part-1-2-3", "half an entry");
  Store store(options(folder));
  store.flush();
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/part-1-2-3"));
}

TEST(DiskStore, TwoShareAFolder) {
  Folder folder;
  Store a(options(folder, 50000)), b(options(folder, 50000));
  for (int i = 0; i < 100; ++i)
    put(i % 2 ? a : b, i);
  a.flush();
  b.flush();
  int found = 0;
  for (int i = 0; i < 100; ++i) {
    auto got = (i % 2 ? b : a).get(key_of(i));
    if (!got) continue;
    ++found;
    EXPECT_EQ(got, payload_of(i, 1000));
  }
  EXPECT_GE(found, 40);
  EXPECT_LE(folder.entries().size(), 50u);
}

TEST(DiskStore, AFolderThatCannotBeIsAnError) {
  Folder folder;
  overwrite(folder.path() + "/file", "");
  auto bad = options(folder);
  bad.folder += "/file/inside";
  EXPECT_THROW(Store{bad}, Error);
}

// In a process of its own: the limit of file sizes is the process's.
int full_disk(const std::string& path) {
  signal(SIGXFSZ, SIG_IGN);
  Store store(
      {.folder = path,
       .owner = "model",
       .pause = std::chrono::seconds(2)}); // longer than what follows takes
  if (!store.put(key_of(1), payload_of(1, 1000))) return 1;
  store.flush();
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  auto before = limit.rlim_cur;
  limit.rlim_cur = 3000;
  setrlimit(RLIMIT_FSIZE, &limit);
  if (!store.put(key_of(2), payload_of(2, 100000))) return 2;
  store.flush();
  auto figures = store.figures();
  if (figures.writing || figures.failures != 1) return 3;
  if (store.put(key_of(3), payload_of(3, 100))) return 4; // not tried
  if (store.get(key_of(2))) return 5;
  if (store.get(key_of(1)) != payload_of(1, 1000)) return 6;
  limit.rlim_cur = before;
  setrlimit(RLIMIT_FSIZE, &limit);
  int tries = 0;
  while (!store.put(key_of(2), payload_of(2, 100000))) {
    if (++tries > 6000) return 7;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  store.flush();
  if (store.get(key_of(2)) != payload_of(2, 100000)) return 8;
  return 0;
}

TEST(DiskStore, AFullDiskOnlyStopsTheWriting) {
  Folder folder;
  auto child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(full_disk(folder.path()));
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(folder.entries().size(), 2u);
  for (const auto& file : std::filesystem::directory_iterator(folder.path()))
    EXPECT_NE(file.path().filename().string().substr(0, 5), "part-");
}

constexpr std::uint64_t killed_limit = 600000;

// Says in a pipe when it has written something.
[[noreturn]] void write_until_killed(
    const std::string& path,
    int round,
    int pipe) {
  bool said = false;
  Store store({.folder = path, .owner = "model", .max_bytes = killed_limit});
  std::mt19937 random(round);
  for (;;) {
    int number = static_cast<int>(random() % 200);
    if (random() % 4 == 0)
      store.get(key_of(number));
    else
      store.put(key_of(number), payload_of(number, 100 + number * 40));
    if (random() % 8 != 0) continue;
    store.flush();
    if (!said) said = ::write(pipe, "w", 1) == 1;
  }
}

TEST(DiskStore, KilledAtAnyMomentItOpensAndHoldsNothingWrong) {
  Folder folder;
  std::mt19937 random(1);
  int found = 0;
  for (int round = 0; round < 100; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    auto child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_until_killed(folder.path(), round, ends[1]);
    // While it opens the folder too, but not always: however slow it is.
    char said = 0;
    if (round % 2) {
      EXPECT_EQ(::read(ends[0], &said, 1), 1);
    }
    usleep(random() % 30000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    for (int end : ends)
      close(end);
    if (round % 10 != 9) continue;
    Store store(
        {.folder = folder.path(), .owner = "model", .max_bytes = killed_limit});
    for (int number = 0; number < 200; ++number) {
      auto got = store.get(key_of(number));
      if (!got) continue;
      ++found;
      ASSERT_EQ(got, payload_of(number, 100 + number * 40));
    }
    store.flush();
    auto figures = store.figures();
    EXPECT_EQ(figures.entries, folder.entries().size());
    EXPECT_LE(figures.bytes, killed_limit);
  }
  EXPECT_GT(found, 0);
  Store store(
      {.folder = folder.path(), .owner = "model", .max_bytes = killed_limit});
  put(store, 1000);
  store.flush();
  EXPECT_EQ(store.get(key_of(1000)), payload_of(1000, 1000));
  for (const auto& file : std::filesystem::directory_iterator(folder.path()))
    EXPECT_NE(file.path().filename().string().substr(0, 5), "part-");
}

} // namespace
} // namespace mlxlm::disk

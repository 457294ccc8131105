#include "page/conversations.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "core/files.h"
#include "mlxlm/error.h"

namespace mlxlm::page {
namespace {

struct Folder {
  std::string path = std::filesystem::temp_directory_path() /
      ("mlxlm-page-" + std::to_string(::getpid()));
  Folder() {
    std::filesystem::remove_all(path);
  }
  ~Folder() {
    std::filesystem::remove_all(path);
  }
  std::string database() const {
    return path + "/below/conversations.db";
  }
};

std::string body(const std::string& id, int updated, const std::string& text) {
  return R"({"id":")" + id + R"(","title":"t )" + text + R"(","updated":)" +
      std::to_string(updated) + R"(,"messages":{"m":{"text":")" + text +
      R"("}}})";
}

TEST(Conversations, KeptPerOwner) {
  Folder folder;
  {
    Conversations store(folder.database());
    store.put("", "a", body("a", 1, "one"));
    store.put("", "b", body("b", 2, "two"));
    store.put("", "a", body("a", 3, "one again"));
    store.put("eve", "a", body("a", 9, "hers"));
  }
  Conversations store(folder.database()); // as after a new start
  auto entries = store.list("");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].id, "a");
  EXPECT_EQ(entries[0].title, "t one again");
  EXPECT_EQ(entries[0].updated, 3);
  EXPECT_EQ(store.get("", "a"), body("a", 3, "one again"));
  EXPECT_EQ(store.get("eve", "a"), body("a", 9, "hers"));
  EXPECT_EQ(store.get("eve", "b"), std::nullopt);
  EXPECT_FALSE(store.remove("eve", "b"));
  EXPECT_TRUE(store.remove("", "b"));
  EXPECT_EQ(store.list("").size(), 1u);
}

TEST(Conversations, ForThisUserAlone) {
  Folder folder;
  Conversations store(folder.database());
  struct stat info {};
  ASSERT_EQ(::stat(folder.database().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(Conversations, OnlyConversations) {
  Folder folder;
  Conversations store(folder.database());
  auto refused = [&](const std::string& id, const std::string& text) {
    try {
      store.put("", id, text);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::request;
    }
    return false;
  };
  EXPECT_TRUE(refused("a", "no json"));
  EXPECT_TRUE(refused("a", "[]"));
  EXPECT_TRUE(refused("a", body("b", 1, "another's id")));
  EXPECT_TRUE(refused("../a", body("../a", 1, "a path")));
  EXPECT_TRUE(refused("a'--", body("a'--", 1, "a quote")));
  EXPECT_TRUE(refused("", body("", 1, "nothing")));
  EXPECT_TRUE(
      refused("a", R"({"id":"a","title":7,"updated":1,"messages":{}})"));
  EXPECT_TRUE(
      refused("a", R"({"id":"a","title":"","updated":-1,"messages":{}})"));
  EXPECT_TRUE(store.list("").empty());
}

TEST(Conversations, QuotesAreOnlyText) {
  Folder folder;
  Conversations store(folder.database());
  store.put("x' OR ''='", "a", body("a", 1, "'; DROP TABLE conversations; --"));
  EXPECT_EQ(store.list("x' OR ''='").size(), 1u);
  EXPECT_TRUE(store.list("").empty());
}

TEST(Conversations, FromManyThreads) {
  Folder folder;
  Conversations store(folder.database());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        auto id = std::to_string(t) + "-" + std::to_string(i);
        store.put("", id, body(id, i, "text"));
        store.get("", id);
      }
    });
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(store.list("").size(), 80u);
}

TEST(Conversations, NotADatabase) {
  Folder folder;
  std::filesystem::create_directories(folder.path);
  write_file(folder.path + "/text.db", std::string(4096, 'x'));
  EXPECT_THROW(Conversations(folder.path + "/text.db"), Error);
  EXPECT_THROW(Conversations("/proc/none/conversations.db"), Error);
}

} // namespace
} // namespace mlxlm::page

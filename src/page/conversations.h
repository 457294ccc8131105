// Conversations of the web page, kept in one SQLite file. What a conversation
// holds is the page's affair; here it is JSON with a name, a title and a time.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct sqlite3;

namespace mlxlm::page {

// "$XDG_DATA_HOME/mlxlm/conversations.db", "~/.local/share/…"; empty without a
// home.
std::string default_database();

// Every owner (the name of a key; "" where none is asked for) sees only what is
// theirs. May be called from any thread.
class Conversations {
 public:
  // Opens or makes the file and its folder, for this user alone. Throws
  // Error(io).
  explicit Conversations(const std::string& path);
  ~Conversations();
  Conversations(const Conversations&) = delete;
  Conversations& operator=(const Conversations&) = delete;

  struct Entry {
    std::string id, title;
    std::int64_t updated; // ms since 1970
  };
  std::vector<Entry> list(std::string_view owner) const; // latest first
  std::optional<std::string> get(std::string_view owner, std::string_view id)
      const;
  // Throws Error(request) for what is no conversation of this id, and beyond
  // `most` conversations of an owner.
  void put(std::string_view owner, std::string_view id, std::string_view body);
  bool remove(std::string_view owner, std::string_view id);

  static constexpr int most = 10000;

 private:
  class Statement;

  mutable std::mutex mutex_;
  std::string path_;
  sqlite3* database_ = nullptr;
};

} // namespace mlxlm::page

// Which entries there are, how large and when last used, in SQLite. Only an
// aid: whatever is wrong with it, it is made again from the files. For one
// thread; processes share the database.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "disk/entry_file.h"

struct sqlite3;

namespace mlxlm::disk {

class Index {
 public:
  explicit Index(const EntryFolder& folder);
  ~Index();

  // Enters what there is and forgets what is not there.
  void reconcile();
  // time: microseconds since 1970
  void add(const std::string& name, std::uint64_t bytes, std::int64_t time);
  void touch(const std::string& name, std::int64_t time);
  void remove(const std::string& name);
  std::uint64_t bytes();
  std::uint64_t entries();
  // The least recently used; empty: none.
  std::string oldest();

 private:
  struct Close {
    void operator()(sqlite3* db) const;
  };
  class Statement;
  bool open(const char* path);
  void start_again();
  template <typename Work>
  void attempt(const Work& work);
  std::int64_t ask(const char* sql);

  const EntryFolder& folder_;
  std::string path_;
  std::unique_ptr<sqlite3, Close> db_; // null only where memory is out
};

} // namespace mlxlm::disk

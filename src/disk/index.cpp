#include "disk/index.h"

#include <sqlite3.h>
#include <unistd.h>

#include <map>
#include <stdexcept>

namespace mlxlm::disk {
namespace {

// Changed with the tables: another number means the index is made again.
constexpr int version = 1;
constexpr const char* schema =
    "CREATE TABLE IF NOT EXISTS entries(name TEXT PRIMARY KEY, "
    "bytes INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS by_use ON entries(used);"
    "PRAGMA user_version=1;";

// Never leaves this file: whoever meets it makes the index again or does
// without.
struct SqliteError : std::runtime_error {
  SqliteError(int code, const char* what)
      : std::runtime_error(what), code(code & 255) {}
  int code;
};

void run(sqlite3* db, const char* sql) {
  int code = sqlite3_exec(db, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) throw SqliteError(code, sqlite3_errmsg(db));
}

} // namespace

class Index::Statement {
 public:
  Statement(sqlite3* db, const char* sql) : db_(db) {
    check(sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr));
  }
  ~Statement() {
    sqlite3_finalize(statement_);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(const std::string& text) {
    check(sqlite3_bind_text(
        statement_,
        ++bound_,
        text.data(),
        static_cast<int>(text.size()),
        SQLITE_TRANSIENT));
    return *this;
  }
  Statement& bind(std::int64_t number) {
    check(sqlite3_bind_int64(statement_, ++bound_, number));
    return *this;
  }
  // False: no (more) row.
  bool step() {
    int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) throw SqliteError(code, sqlite3_errmsg(db_));
    return false;
  }
  std::int64_t number(int column) const {
    return sqlite3_column_int64(statement_, column);
  }
  std::string text(int column) const {
    const auto* text = sqlite3_column_text(statement_, column);
    auto size = sqlite3_column_bytes(statement_, column);
    if (!text) return {};
    return {
        reinterpret_cast<const char*>(text), static_cast<std::size_t>(size)};
  }

 private:
  void check(int code) {
    if (code != SQLITE_OK) throw SqliteError(code, sqlite3_errmsg(db_));
  }
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

void Index::Close::operator()(sqlite3* db) const {
  sqlite3_close(db);
}

Index::Index(const EntryFolder& folder)
    : folder_(folder), path_(folder.path() + "/index.sqlite") {
  if (!open(path_.c_str())) start_again();
}

Index::~Index() = default;

bool Index::open(const char* path) {
  sqlite3* db = nullptr;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  int code = sqlite3_open_v2(path, &db, flags, nullptr);
  db_.reset(db);
  if (code != SQLITE_OK) return false;
  try {
    sqlite3_busy_timeout(db, 2000);
    run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;");
    auto found = ask("PRAGMA user_version");
    if (found != 0 && found != version) return false;
    run(db, schema);
    // Fails here rather than later where pages are damaged or columns are not
    // ours.
    ask("SELECT sum(bytes) + max(used) + count(name) FROM entries");
    return true;
  } catch (const SqliteError&) {
    return false;
  }
}

// Away with it; the files say all that it knew. Where none can be, one in
// memory serves.
void Index::start_again() {
  db_.reset();
  for (const char* end : {"", "-wal", "-shm", "-journal"})
    unlink((path_ + end).c_str());
  if (!open(path_.c_str()) && !open(":memory:")) db_.reset();
}

template <typename Work>
void Index::attempt(const Work& work) {
  if (!db_) return;
  try {
    work();
  } catch (const SqliteError& error) {
    // Busy or full: the next reconcile finds what was missed.
    if (error.code != SQLITE_CORRUPT && error.code != SQLITE_NOTADB &&
        error.code != SQLITE_ERROR)
      return;
    start_again();
    try {
      if (db_) reconcile();
    } catch (const SqliteError&) {
      db_.reset();
    }
  }
}

std::int64_t Index::ask(const char* sql) {
  Statement statement(db_.get(), sql);
  return statement.step() ? statement.number(0) : 0;
}

void Index::reconcile() {
  auto files = folder_.list();
  auto work = [&] {
    run(db_.get(), "BEGIN IMMEDIATE");
    try {
      std::map<std::string, std::int64_t> known;
      Statement all(db_.get(), "SELECT name, bytes FROM entries");
      while (all.step())
        known[all.text(0)] = all.number(1);
      for (const auto& file : files) {
        auto bytes = static_cast<std::int64_t>(file.bytes);
        auto it = known.find(file.name);
        bool right = it != known.end() && it->second == bytes;
        if (it != known.end()) known.erase(it);
        if (right) continue;
        Statement(db_.get(), "INSERT OR REPLACE INTO entries VALUES(?, ?, ?)")
            .bind(file.name)
            .bind(bytes)
            .bind(file.changed)
            .step();
      }
      for (const auto& [name, bytes] : known)
        Statement(db_.get(), "DELETE FROM entries WHERE name = ?")
            .bind(name)
            .step();
      run(db_.get(), "COMMIT");
    } catch (const SqliteError&) {
      sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
      throw;
    }
  };
  if (!db_) return;
  try {
    work();
  } catch (const SqliteError& error) {
    if (error.code == SQLITE_BUSY || error.code == SQLITE_FULL) return;
    start_again();
    try {
      if (db_) work();
    } catch (const SqliteError&) {
      db_.reset();
    }
  }
}

void Index::add(
    const std::string& name,
    std::uint64_t bytes,
    std::int64_t time) {
  attempt([&] {
    Statement(db_.get(), "INSERT OR REPLACE INTO entries VALUES(?, ?, ?)")
        .bind(name)
        .bind(static_cast<std::int64_t>(bytes))
        .bind(time)
        .step();
  });
}

void Index::touch(const std::string& name, std::int64_t time) {
  attempt([&] {
    Statement statement(
        db_.get(), "UPDATE entries SET used = ? WHERE name = ?");
    statement.bind(time).bind(name).step();
  });
}

void Index::remove(const std::string& name) {
  attempt([&] {
    Statement(db_.get(), "DELETE FROM entries WHERE name = ?")
        .bind(name)
        .step();
  });
}

std::uint64_t Index::bytes() {
  std::int64_t total = 0;
  attempt([&] { total = ask("SELECT sum(bytes) FROM entries"); });
  return static_cast<std::uint64_t>(total);
}

std::uint64_t Index::entries() {
  std::int64_t count = 0;
  attempt([&] { count = ask("SELECT count(*) FROM entries"); });
  return static_cast<std::uint64_t>(count);
}

std::string Index::oldest() {
  std::string name;
  attempt([&] {
    Statement first(
        db_.get(), "SELECT name FROM entries ORDER BY used, name LIMIT 1");
    if (first.step()) name = first.text(0);
  });
  return name;
}

} // namespace mlxlm::disk

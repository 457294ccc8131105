#include "page/conversations.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "core/check.h"
#include "core/env.h"
#include "core/json.h"

namespace mlxlm::page {
namespace {

constexpr const char* schema =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;"
    "CREATE TABLE IF NOT EXISTS conversations ("
    "  owner TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,"
    "  updated INTEGER NOT NULL, body TEXT NOT NULL,"
    "  PRIMARY KEY (owner, id)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS latest ON conversations (owner, updated);";

// Made before SQLite opens it, which would leave it readable for everybody.
void make_private(const std::string& path) {
  auto folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty() && std::filesystem::create_directories(folder, error))
    ::chmod(folder.c_str(), 0700);
  int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0)
    fail(
        ErrorKind::io,
        path,
        "expected a file that can be written, found: {}",
        std::system_category().message(errno));
  ::close(file);
}

bool plain_id(std::string_view id) {
  if (id.empty() || id.size() > 64) return false;
  for (char c : id)
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') &&
        !(c >= 'A' && c <= 'Z') && c != '_' && c != '-')
      return false;
  return true;
}

} // namespace

std::string default_database() {
  if (auto data = env::get("XDG_DATA_HOME"))
    return *data + "/mlxlm/conversations.db";
  if (auto home = env::get("HOME"))
    return *home + "/.local/share/mlxlm/conversations.db";
  return {};
}

// One statement with its values, run to its end or given up.
class Conversations::Statement {
 public:
  Statement(
      const Conversations& owner,
      const char* sql,
      std::initializer_list<std::string_view> values)
      : owner_(owner) {
    check(sqlite3_prepare_v2(owner.database_, sql, -1, &statement_, nullptr));
    int at = 0;
    for (auto value : values)
      check(sqlite3_bind_text64(
          statement_,
          ++at,
          value.data() ? value.data() : "",
          value.size(),
          SQLITE_TRANSIENT,
          SQLITE_UTF8));
  }
  ~Statement() {
    sqlite3_finalize(statement_);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  void bind(int at, std::int64_t value) {
    check(sqlite3_bind_int64(statement_, at, value));
  }
  // Whether there is another row.
  bool step() {
    int code = sqlite3_step(statement_);
    if (code != SQLITE_ROW && code != SQLITE_DONE) check(code);
    return code == SQLITE_ROW;
  }
  std::string text(int column) const {
    const auto* data = sqlite3_column_text(statement_, column);
    auto size =
        static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
    return data ? std::string(reinterpret_cast<const char*>(data), size)
                : std::string();
  }
  std::int64_t integer(int column) const {
    return sqlite3_column_int64(statement_, column);
  }

 private:
  void check(int code) const {
    if (code == SQLITE_OK) return;
    fail(
        ErrorKind::io,
        owner_.path_,
        "expected a database that works, found: {}",
        sqlite3_errmsg(owner_.database_));
  }

  const Conversations& owner_;
  sqlite3_stmt* statement_ = nullptr;
};

Conversations::Conversations(const std::string& path) : path_(path) {
  make_private(path);
  constexpr int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
  int code = sqlite3_open_v2(path.c_str(), &database_, flags, nullptr);
  if (code == SQLITE_OK) sqlite3_busy_timeout(database_, 5000); // ms
  if (code == SQLITE_OK)
    code = sqlite3_exec(database_, schema, nullptr, nullptr, nullptr);
  if (code == SQLITE_OK) return;
  std::string what = sqlite3_errmsg(database_);
  sqlite3_close_v2(database_);
  fail(ErrorKind::io, path, "expected a database, found: {}", what);
}

Conversations::~Conversations() {
  sqlite3_close_v2(database_);
}

std::vector<Conversations::Entry> Conversations::list(
    std::string_view owner) const {
  std::lock_guard lock(mutex_);
  Statement statement(
      *this,
      "SELECT id, title, updated FROM conversations WHERE owner = ?1 "
      "ORDER BY updated DESC",
      {owner});
  std::vector<Entry> out;
  while (statement.step())
    out.push_back({statement.text(0), statement.text(1), statement.integer(2)});
  return out;
}

std::optional<std::string> Conversations::get(
    std::string_view owner,
    std::string_view id) const {
  std::lock_guard lock(mutex_);
  Statement statement(
      *this,
      "SELECT body FROM conversations WHERE owner = ?1 AND id = ?2",
      {owner, id});
  if (!statement.step()) return std::nullopt;
  return statement.text(0);
}

void Conversations::put(
    std::string_view owner,
    std::string_view id,
    std::string_view body) {
  if (!plain_id(id))
    fail(
        ErrorKind::request,
        "id",
        "expected 1 to 64 letters, digits, _ and -, found {} bytes",
        id.size());
  auto json = parse_json(body, "conversation", ErrorKind::request);
  auto has = [&](const char* key, auto is) {
    return json.is_object() && json.contains(key) && (json[key].*is)();
  };
  if (!has("id", &Json::is_string) || json["id"] != std::string(id) ||
      !has("title", &Json::is_string) || !has("updated", &Json::is_number) ||
      !has("messages", &Json::is_object))
    fail(
        ErrorKind::request,
        "conversation",
        "expected its id, title, updated and messages");
  auto title = json["title"].get<std::string>();
  auto updated = json["updated"].get<double>();
  if (title.size() > 1024 || !(updated >= 0 && updated < 1e15))
    fail(
        ErrorKind::request,
        "conversation",
        "expected a title of at most 1024 bytes and a time");

  std::lock_guard lock(mutex_);
  Statement count(
      *this,
      "SELECT count(*) FROM conversations WHERE owner = ?1 AND id <> ?2",
      {owner, id});
  if (count.step() && count.integer(0) >= most)
    fail(
        ErrorKind::request,
        "conversation",
        "expected at most {} of them; delete some",
        most);
  Statement statement(
      *this,
      "INSERT INTO conversations (owner, id, title, body, updated) "
      "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (owner, id) DO UPDATE SET "
      "title = excluded.title, body = excluded.body, updated = excluded.updated",
      {owner, id, title, body});
  statement.bind(5, static_cast<std::int64_t>(updated));
  statement.step();
}

bool Conversations::remove(std::string_view owner, std::string_view id) {
  std::lock_guard lock(mutex_);
  Statement statement(
      *this,
      "DELETE FROM conversations WHERE owner = ?1 AND id = ?2",
      {owner, id});
  statement.step();
  return sqlite3_changes(database_) > 0;
}

} // namespace mlxlm::page

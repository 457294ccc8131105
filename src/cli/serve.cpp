// serve: models behind HTTP. Signals are taken by the main thread alone:
// SIGTERM and SIGINT end what runs in good order, a second one at once; SIGHUP
// reads the keys again.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <ctime>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "cli/commands.h"
#include "cli/running.h"
#include "cli/served_models.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"
#include "page/conversations.h"
#include "serve/server.h"
#include "serve/service.h"

namespace mlxlm::cli {
namespace {

// Lines of several threads, whole. What cannot be written is left out.
void log_line(const std::string& line) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  note(line);
}

std::string utc_now() {
  auto now = std::chrono::system_clock::now();
  auto time = std::chrono::system_clock::to_time_t(now);
  std::tm tm{};
  ::gmtime_r(&time, &tm);
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                now.time_since_epoch())
                .count() %
      1000;
  return fmt::format(
      "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
      tm.tm_year + 1900,
      tm.tm_mon + 1,
      tm.tm_mday,
      tm.tm_hour,
      tm.tm_min,
      tm.tm_sec,
      ms);
}

// Of what is no request at all, so many lines in a time: anybody could fill a
// disk with them.
class Refusals {
 public:
  // Whether one more may be told, and how many were not since the last.
  bool tell(std::int64_t& left_out) {
    constexpr int most = 20;
    constexpr auto time = std::chrono::seconds(10);
    auto now = std::chrono::steady_clock::now();
    std::lock_guard lock(mutex_);
    if (now >= begin_ + time) {
      begin_ = now;
      told_ = 0;
    }
    if (told_ == most) {
      ++left_out_;
      return false;
    }
    ++told_;
    left_out = std::exchange(left_out_, 0);
    return true;
  }

 private:
  std::mutex mutex_;
  std::chrono::steady_clock::time_point begin_;
  int told_ = 0;
  std::int64_t left_out_ = 0;
};

void log_access(const serve::AccessRecord& r) {
  static Refusals refusals;
  std::int64_t left_out = 0;
  if (r.outcome == "refused" && !refusals.tell(left_out)) return;
  Json line = {
      {"time", utc_now()},
      {"id", r.id},
      {"peer", r.peer},
      {"client", r.client},
      {"request", printable(r.method + " " + r.path, 200)},
      {"status", r.status},
      {"outcome", r.outcome},
      {"bytes", r.bytes},
      {"seconds", std::round(r.seconds * 1e4) / 1e4}};
  if (!r.note.empty()) line["tokens"] = r.note;
  if (left_out > 0) line["left_out"] = left_out; // others like it
  log_line(line.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::vector<serve::Key> read_keys(const Values& values) {
  auto keys = serve::parse_keys(join(values.list("api-key"), "\n"));
  if (values.has("api-key-file"))
    for (auto& key : serve::parse_keys(read_file(values.text("api-key-file"))))
      keys.push_back(std::move(key));
  return keys;
}

// The page's; it keeps them in the browser where this machine cannot, or where
// anybody could read them.
std::shared_ptr<page::Conversations> open_conversations(
    const Values& values,
    bool strangers) {
  bool asked = values.has("conversations");
  auto path = asked ? values.text("conversations") : page::default_database();
  if (path.empty() || path == "none") return nullptr;
  if (strangers && asked)
    throw UsageError(
        "--conversations: expected an --api-key, without which anybody could read them");
  if (strangers) {
    log_line("conversations are not kept: anybody could read them");
    return nullptr;
  }
  try {
    return std::make_shared<page::Conversations>(path);
  } catch (const Error& error) {
    if (asked) throw;
    log_line(fmt::format("conversations are not kept: {}", error.what()));
    return nullptr;
  }
}

std::vector<std::string> words(const Values& values, std::string_view name) {
  std::vector<std::string> out;
  for (const auto& text : values.list(name))
    for (auto& word : split(text, ','))
      if (!word.empty()) out.push_back(word);
  return out;
}

serve::Limits read_limits(const Values& values) {
  serve::Limits limits;
  for (const auto& row : serve::limit_rows()) {
    auto name = join(split(row.name, '_'), "-");
    limits.*row.member = values.integer(name);
  }
  return limits;
}

serve::ServiceOptions service_options(const Values& values) {
  serve::ServiceOptions out;
  out.limits = read_limits(values);
  out.defaults = sampling_parameters(values);
  if (values.has("chat-template-config"))
    out.template_kwargs = values.json("chat-template-config").dump();
  out.keys = read_keys(values);
  out.origins = words(values, "allowed-origins");
  out.hosts = words(values, "allowed-hosts");
  out.strict = values.flag("strict");
  auto field = values.text("reasoning-field");
  using Field = serve::ReasoningField;
  out.reasoning_field = field == "both" ? Field::both
      : field == "reasoning"            ? Field::plain
                                        : Field::content;
  out.log = log_line;
  auto host = values.text("host");
  bool open = serve::is_open_bind(host);
  out.any_host = open ? out.hosts.empty() : !serve::is_loopback_name(host);
  for (const auto& name : out.hosts)
    out.any_host = out.any_host || name == "*";
  if (open && out.keys.empty() && !values.flag("insecure"))
    throw UsageError(fmt::format(
        "--host {}: other machines could ask; expected an --api-key (or --insecure)",
        printable(host)));
  out.conversations = open_conversations(values, open && out.keys.empty());
  return out;
}

serve::ServerOptions server_options(const Values& values) {
  serve::ServerOptions out;
  out.host = values.text("host");
  out.port = values.integer("port");
  out.limits = read_limits(values);
  if (values.has("ssl-cert-file") != values.has("ssl-key-file"))
    throw UsageError("--ssl-cert-file: expected together with --ssl-key-file");
  if (values.has("ssl-cert-file")) {
    out.certificate = values.text("ssl-cert-file");
    out.private_key = values.text("ssl-key-file");
  }
  if (!values.flag("no-access-log")) out.access_log = log_access;
  return out;
}

// The signals this command waits for, kept from all threads.
class Signals {
 public:
  Signals() {
    ::sigemptyset(&set_);
    for (int s : {SIGINT, SIGTERM, SIGHUP})
      ::sigaddset(&set_, s);
    ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~Signals() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  // The one that came within the time, or 0.
  int wait(std::chrono::milliseconds time) {
#ifdef __APPLE__ // has no sigtimedwait
    for (auto left = time;; left -= std::chrono::milliseconds(20)) {
      ::sigset_t pending;
      ::sigpending(&pending);
      for (int s : {SIGINT, SIGTERM, SIGHUP})
        if (::sigismember(&pending, s)) {
          int taken = 0;
          ::sigwait(&set_, &taken);
          return taken;
        }
      if (left.count() <= 0) return 0;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
#else
    timespec limit{time.count() / 1000, time.count() % 1000 * 1000000};
    int taken = ::sigtimedwait(&set_, nullptr, &limit);
    return taken > 0 ? taken : 0;
#endif
  }

 private:
  ::sigset_t set_, before_;
};

class Serving {
 public:
  explicit Serving(const Values& values)
      : values_(values),
        service_(service_options(values)),
        server_(server_options(values), service_) {
    check_models(values);
  }

  int run() {
    using namespace std::chrono_literals;
    auto loading = std::async(std::launch::async, [this] {
      auto models = served_models(values_, log_line);
      service_.set_models(models);
      return names_of(*models);
    });
    while (loading.wait_for(0s) != std::future_status::ready)
      if (int signal = signals_.wait(50ms); signal && signal != SIGHUP)
        std::_Exit(128 + signal); // nothing is under way yet
    auto names = loading.get();
    note(fmt::format("serving {} at {}", names, server_.address()));
    for (;;) {
      int signal = signals_.wait(1000ms);
      if (signal == SIGHUP) reload();
      if (signal == SIGINT || signal == SIGTERM) return drain(signal);
    }
  }

 private:
  void reload() {
    try {
      auto keys = read_keys(values_);
      // Without keys everybody might ask.
      if (keys.empty()) throw UsageError("expected a key, found none");
      service_.set_keys(std::move(keys));
      log_line("the keys have been read again");
    } catch (const std::exception& e) {
      log_line(fmt::format("the old keys stay: {}", e.what()));
    }
  }

  int drain(int signal) {
    using namespace std::chrono_literals;
    service_.set_draining();
    bool all = server_.drain([this] {
      if (int again = signals_.wait(0ms); again && again != SIGHUP)
        std::_Exit(128 + again);
      return false;
    });
    log_line(all ? "stopped" : "stopped; some answers were cut short");
    return signal == SIGINT ? 130 : 0;
  }

  const Values& values_;
  Signals signals_;
  serve::Service service_;
  serve::Server server_;
};

} // namespace

int run_serve(const Values& values) {
  return Serving(values).run();
}

} // namespace mlxlm::cli

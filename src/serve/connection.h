// One connection: requests in order, one answer at a time, and an eye on the
// client while it waits. For server.cpp and connection.cpp only: Asio is slow
// to compile.
#pragma once

#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "serve/request_reader.h"
#include "serve/server.h"

namespace mlxlm::serve {

namespace asio = boost::asio;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Strand = asio::strand<asio::io_context::executor_type>;
using Socket =
    asio::basic_stream_socket<asio::generic::stream_protocol, Strand>;
using Timer =
    asio::basic_waitable_timer<Clock, asio::wait_traits<Clock>, Strand>;

// Bytes in and out; plain or encrypted. Handlers run on the strand.
class Link {
 public:
  using Done = std::function<void(error_code, std::size_t)>;
  virtual ~Link() = default;
  virtual void read(asio::mutable_buffer into, Done done) = 0;
  virtual void write(asio::const_buffer from, Done done) = 0; // all of it
  // Called first; TLS shakes hands here.
  virtual void open(Done done) = 0;
  virtual Socket& socket() = 0;
};
using LinkPtr = std::unique_ptr<Link>;
LinkPtr plain_link(Socket socket);
// Encrypted links, where the build has OpenSSL.
class TlsContext {
 public:
  virtual ~TlsContext() = default;
  virtual LinkPtr link(Socket socket) = 0;
};
std::unique_ptr<TlsContext> tls_context(
    const std::string& certificate,
    const std::string& private_key);

class Connection;

// What connections share.
struct Hub {
  Hub(const ServerOptions& options, Handler& handler)
      : limits(options.limits),
        log(options.access_log),
        handler(handler),
        workers(static_cast<std::size_t>(options.workers)) {}

  const Limits limits;
  const AccessLog log;
  Handler& handler;
  asio::thread_pool workers;
  std::atomic<bool> draining{false}; // no further requests
  std::atomic<bool> stopping{false}; // answers end now

  // Counts an open connection; false when there are too many.
  bool enter(Connection* connection, const std::string& address);
  void leave(Connection* connection, const std::string& address);
  std::size_t open() const;
  void wake_all();

 private:
  mutable std::mutex mutex_;
  std::set<Connection*> connections_;
  std::map<std::string, std::int64_t> addresses_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Hub> hub, LinkPtr link, std::string peer);
  ~Connection();
  void start();
  // From any thread.
  void wake();

 private:
  struct Exchange; // a request and its answer

  asio::awaitable<void> run();
  asio::awaitable<bool> opened();
  asio::awaitable<std::optional<HttpRequest>> read_request();
  asio::awaitable<bool> answer(HttpRequest request);
  asio::awaitable<void> refuse(int status, std::string message);
  asio::awaitable<void> linger();
  // Until signalled; false: until then nothing came.
  asio::awaitable<bool> wait(Clock::time_point until);

  void begin(std::shared_ptr<Exchange> exchange);
  Wake waker();
  void gather(Exchange& exchange);
  const char* given_up(const Exchange& exchange) const;
  void record(const Exchange& exchange, const char* outcome);
  void start_read();
  void start_write();
  void signal();

  std::shared_ptr<Hub> hub_;
  LinkPtr link_;
  const std::string peer_;
  Timer timer_;
  bool signalled_ = false;
  std::atomic<bool> woken_{false};

  std::string input_; // read and not yet understood
  std::array<char, 4096> chunk_;
  bool reading_ = false;
  bool closed_ = false; // the client sends nothing more
  bool broken_ = false; // and can receive nothing
  Clock::time_point closed_at_;

  std::string pending_, writing_; // to be sent, and under way
  Clock::time_point write_started_;
  bool first_ = true; // no request yet
};

} // namespace mlxlm::serve

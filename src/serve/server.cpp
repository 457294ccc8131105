#include "serve/server.h"

#include <fmt/format.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "core/check.h"
#include "core/strings.h"
#include "serve/connection.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace mlxlm::serve {
namespace {

using Tcp = asio::ip::tcp;
using Unix = asio::local::stream_protocol;

std::string unix_path(const std::string& host) {
  if (starts_with(host, "unix:")) return host.substr(5);
  return ends_with(host, ".sock") ? host : std::string();
}

[[noreturn]] void cannot_listen(const std::string& where, const error_code& e) {
  fail(
      ErrorKind::io,
      "serve",
      "expected to listen on {}, found: {}",
      where,
      e.message());
}

Tcp::endpoint resolve(const std::string& host, int port) {
  error_code error;
  asio::io_context io;
  Tcp::resolver resolver(io);
  auto found = resolver.resolve(
      host, std::to_string(port), Tcp::resolver::numeric_service, error);
  if (error || found.empty()) cannot_listen(host, error);
  for (const auto& entry : found)
    if (entry.endpoint().address().is_v4()) return entry.endpoint();
  return found.begin()->endpoint();
}

// A socket file that nobody listens on is left over from a crash.
void remove_stale(const std::string& path) {
  struct stat about;
  if (::lstat(path.c_str(), &about) != 0 || !S_ISSOCK(about.st_mode)) return;
  asio::io_context io;
  Unix::socket probe(io);
  error_code error;
  probe.connect(Unix::endpoint(path), error);
  if (error == asio::error::connection_refused) ::unlink(path.c_str());
}

std::string peer_of(const Tcp::endpoint& endpoint) {
  return endpoint.address().to_string();
}
std::string peer_of(const Unix::endpoint&) {
  return "unix";
}

} // namespace

class Server::State : public std::enable_shared_from_this<Server::State> {
 public:
  State(const ServerOptions& options, Handler& handler)
      : hub_(std::make_shared<Hub>(options, handler)),
        guard_(asio::make_work_guard(io_)) {
    if (!options.certificate.empty())
      tls_ = tls_context(options.certificate, options.private_key);
    path_ = unix_path(options.host);
    try {
      path_.empty() ? listen_tcp(options) : listen_unix();
    } catch (...) {
      stop();
      throw;
    }
    for (int i = 0; i < options.io_threads; ++i)
      threads_.emplace_back([this] { io_.run(); });
  }
  ~State() {
    stop();
  }

  bool drain(const std::function<bool()>& cut_short) {
    using namespace std::chrono_literals;
    hub_->draining = true;
    asio::post(io_, [this] { close_acceptors(); });
    hub_->wake_all();
    auto deadline =
        Clock::now() + std::chrono::seconds(hub_->limits.drain_seconds);
    while (hub_->open() > 0 && Clock::now() < deadline &&
           !(cut_short && cut_short()))
      std::this_thread::sleep_for(20ms);
    if (hub_->open() == 0) return true;
    hub_->stopping = true;
    hub_->wake_all();
    for (int i = 0; i < 200 && hub_->open() > 0; ++i)
      std::this_thread::sleep_for(20ms);
    return false;
  }

  int port = 0;
  std::string address;
  std::size_t open() const {
    return hub_->open();
  }

 private:
  void stop() {
    hub_->draining = hub_->stopping = true;
    hub_->workers.join();
    io_.stop();
    for (auto& thread : threads_)
      thread.join();
    if (!path_.empty() && unix_) ::unlink(path_.c_str());
  }

  void close_acceptors() {
    error_code ignored;
    if (tcp_) tcp_->close(ignored);
    if (unix_) unix_->close(ignored);
  }

  void listen_tcp(const ServerOptions& options) {
    auto endpoint = resolve(options.host, options.port);
    auto where = fmt::format("{}:{}", options.host, options.port);
    tcp_.emplace(io_);
    error_code error;
    tcp_->open(endpoint.protocol(), error);
    if (!error) tcp_->set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error) tcp_->bind(endpoint, error);
    if (!error) tcp_->listen(SOMAXCONN, error);
    if (error) cannot_listen(where, error);
    port = tcp_->local_endpoint().port();
    auto host = endpoint.address().to_string();
    if (endpoint.address().is_v6()) host = "[" + host + "]";
    address = fmt::format("{}://{}:{}", tls_ ? "https" : "http", host, port);
    spawn(*tcp_);
  }

  void listen_unix() {
    remove_stale(path_);
    unix_.emplace(io_);
    error_code error;
    unix_->open(Unix(), error);
    // Only this user.
    auto mask = ::umask(0177);
    if (!error) unix_->bind(Unix::endpoint(path_), error);
    ::umask(mask);
    if (!error) unix_->listen(SOMAXCONN, error);
    if (error) cannot_listen(path_, error);
    address = "unix:" + path_;
    spawn(*unix_);
  }

  template <typename Acceptor>
  void spawn(Acceptor& acceptor) {
    asio::co_spawn(io_, accept(acceptor), asio::detached);
  }

  template <typename Acceptor>
  asio::awaitable<void> accept(Acceptor& acceptor) {
    using Protocol = typename Acceptor::protocol_type;
    Timer pause(asio::make_strand(io_));
    while (acceptor.is_open()) {
      error_code error;
      typename Protocol::endpoint from;
      asio::basic_stream_socket<Protocol, Strand> socket(
          asio::make_strand(io_));
      co_await acceptor.async_accept(
          socket, from, asio::redirect_error(asio::use_awaitable, error));
      if (error == asio::error::operation_aborted) co_return;
      if (error) {
        // Out of descriptors, mostly: those in use are served meanwhile.
        pause.expires_after(std::chrono::milliseconds(100));
        co_await pause.async_wait(
            asio::redirect_error(asio::use_awaitable, error));
        continue;
      }
      if constexpr (std::is_same_v<Protocol, Tcp>)
        socket.set_option(Tcp::no_delay(true), error);
      // What the system keeps for a reader that takes nothing.
      socket.set_option(asio::socket_base::send_buffer_size(1 << 17), error);
      Socket plain(std::move(socket));
      auto link =
          tls_ ? tls_->link(std::move(plain)) : plain_link(std::move(plain));
      std::make_shared<Connection>(hub_, std::move(link), peer_of(from))
          ->start();
    }
  }

  std::shared_ptr<Hub> hub_;
  std::unique_ptr<TlsContext> tls_;
  asio::io_context io_{2};
  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  std::optional<Tcp::acceptor> tcp_;
  std::optional<Unix::acceptor> unix_;
  std::string path_; // of the Unix socket
  std::vector<std::thread> threads_;
};

Server::Server(const ServerOptions& options, Handler& handler)
    : state_(std::make_shared<State>(options, handler)) {}
Server::~Server() = default;

int Server::port() const {
  return state_->port;
}
std::string Server::address() const {
  return state_->address;
}
std::size_t Server::connections() const {
  return state_->open();
}
bool Server::drain(const std::function<bool()>& cut_short) {
  return state_->drain(cut_short);
}

} // namespace mlxlm::serve

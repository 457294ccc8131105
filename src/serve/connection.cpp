#include "serve/connection.h"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace mlxlm::serve {
namespace {

// Requests sent ahead are read this far.
constexpr std::size_t read_ahead = 64 << 10;
constexpr auto tick = std::chrono::seconds(1);

std::chrono::seconds seconds(std::int64_t n) {
  return std::chrono::seconds(n);
}

class PlainLink final : public Link {
 public:
  explicit PlainLink(Socket socket) : socket_(std::move(socket)) {}
  void open(Done done) override {
    done({}, 0);
  }
  void read(asio::mutable_buffer into, Done done) override {
    socket_.async_read_some(into, std::move(done));
  }
  void write(asio::const_buffer from, Done done) override {
    asio::async_write(socket_, from, std::move(done));
  }
  Socket& socket() override {
    return socket_;
  }

 private:
  Socket socket_;
};

} // namespace

LinkPtr plain_link(Socket socket) {
  return std::make_unique<PlainLink>(std::move(socket));
}

// ---- what connections share ------------------------------------------------
bool Hub::enter(Connection* connection, const std::string& address) {
  std::lock_guard lock(mutex_);
  if (draining ||
      connections_.size() >= static_cast<std::size_t>(limits.connections))
    return false;
  // This machine's own addresses stand for many: proxies, tests.
  bool own = address == "unix" || address == "::1" ||
      address.compare(0, 4, "127.") == 0;
  if (!own && addresses_[address] >= limits.connections_per_address)
    return false;
  ++addresses_[address];
  connections_.insert(connection);
  return true;
}

void Hub::leave(Connection* connection, const std::string& address) {
  std::lock_guard lock(mutex_);
  if (connections_.erase(connection) && --addresses_[address] == 0)
    addresses_.erase(address);
}

std::size_t Hub::open() const {
  std::lock_guard lock(mutex_);
  return connections_.size();
}

void Hub::wake_all() {
  std::lock_guard lock(mutex_);
  for (auto* connection : connections_)
    connection->wake();
}

// ---- a connection ----------------------------------------------------------
struct Connection::Exchange {
  HttpRequest request;
  ReplyPtr reply; // null until a worker has begun it
  Clock::time_point started = Clock::now();
  int status = 0;
  std::size_t bytes = 0;
  bool chunked = false;
  bool begun = false, ended = false, keep_alive = false, stopped = false;
  bool head_only = false;
  bool again = false; // is to begin anew
};

Connection::Connection(std::shared_ptr<Hub> hub, LinkPtr link, std::string peer)
    : hub_(std::move(hub)),
      link_(std::move(link)),
      peer_(std::move(peer)),
      timer_(link_->socket().get_executor()) {}

Connection::~Connection() {
  hub_->leave(this, peer_);
}

void Connection::start() {
  if (!hub_->enter(this, peer_)) return;
  asio::co_spawn(
      link_->socket().get_executor(),
      [self = shared_from_this()] { return self->run(); },
      asio::detached);
}

void Connection::wake() {
  if (woken_.exchange(true)) return;
  // Called while the hub holds the connection in its list or by one that holds
  // it: it may be on its way out, then there is nothing to wake.
  auto self = weak_from_this().lock();
  if (!self) return;
  asio::post(link_->socket().get_executor(), [self] {
    self->woken_ = false;
    self->signal();
  });
}

void Connection::signal() {
  signalled_ = true;
  timer_.cancel();
}

asio::awaitable<bool> Connection::wait(Clock::time_point until) {
  if (!signalled_) {
    timer_.expires_at(until);
    error_code error;
    co_await timer_.async_wait(
        asio::redirect_error(asio::use_awaitable, error));
  }
  co_return std::exchange(signalled_, false);
}

void Connection::start_read() {
  if (reading_ || closed_ || input_.size() >= read_ahead) return;
  reading_ = true;
  link_->read(
      asio::buffer(chunk_),
      [self = shared_from_this()](error_code error, std::size_t n) {
        self->reading_ = false;
        if (error) {
          self->closed_ = true;
          self->closed_at_ = Clock::now();
          self->broken_ = self->broken_ || error != asio::error::eof;
        } else {
          self->input_.append(self->chunk_.data(), n);
        }
        self->signal();
      });
}

void Connection::start_write() {
  if (!writing_.empty() || pending_.empty() || broken_) return;
  writing_.swap(pending_);
  write_started_ = Clock::now();
  link_->write(
      asio::buffer(writing_),
      [self = shared_from_this()](error_code error, std::size_t) {
        self->writing_.clear();
        if (error) self->broken_ = true;
        self->signal();
      });
}

asio::awaitable<void> Connection::run() {
  if (co_await opened()) {
    for (;;) {
      auto request = co_await read_request();
      if (!request) break;
      if (!co_await answer(std::move(*request))) break;
    }
    co_await linger();
  }
  error_code ignored;
  link_->socket().close(ignored);
}

asio::awaitable<bool> Connection::opened() {
  auto done = std::make_shared<std::optional<error_code>>();
  link_->open([self = shared_from_this(), done](error_code error, std::size_t) {
    *done = error;
    self->signal();
  });
  auto deadline = Clock::now() + seconds(hub_->limits.header_seconds);
  while (!*done && Clock::now() < deadline)
    co_await wait(deadline);
  co_return *done && !**done;
}

asio::awaitable<std::optional<HttpRequest>> Connection::read_request() {
  using State = RequestReader::State;
  const auto& limits = hub_->limits;
  RequestReader reader(limits);
  auto deadline = Clock::now() +
      seconds(first_ ? limits.header_seconds : limits.idle_seconds);
  auto state = State::untouched;
  while (true) {
    if (!input_.empty()) input_.erase(0, reader.feed(input_));
    if (reader.state() != state) {
      if (state == State::untouched)
        deadline = Clock::now() + seconds(limits.header_seconds);
      state = reader.state();
      if (state == State::body)
        deadline = Clock::now() +
            seconds(limits.body_seconds +
                    static_cast<std::int64_t>(reader.content_length()) /
                        limits.body_rate);
    }
    if (state == State::done) {
      first_ = false;
      co_return reader.take();
    }
    if (state == State::refused) {
      co_await refuse(reader.status(), reader.message());
      co_return std::nullopt;
    }
    if (reader.expects_continue()) {
      pending_ += "HTTP/1.1 100 Continue\r\n\r\n";
      start_write();
    }
    bool idle = state == State::untouched;
    if (closed_ || broken_ || (idle && hub_->draining)) co_return std::nullopt;
    start_read();
    co_await wait(std::min(deadline, Clock::now() + tick));
    if (Clock::now() < deadline) continue;
    if (state == State::body)
      co_await refuse(408, "The body did not arrive in time (body_seconds).");
    co_return std::nullopt;
  }
}

asio::awaitable<void> Connection::refuse(int status, std::string message) {
  auto exchange = std::make_shared<Exchange>();
  exchange->reply = hub_->handler.refuse(status, message);
  gather(*exchange);
  start_write();
  auto deadline = Clock::now() + tick;
  while (!writing_.empty() && !broken_ && Clock::now() < deadline)
    co_await wait(deadline);
  record(*exchange, "refused");
}

// The handler may take long (templates, long prompts): not on an I/O thread,
// but for what only looks at something.
void Connection::begin(std::shared_ptr<Exchange> exchange) {
  const auto& method = exchange->request.method;
  if (method == "GET" || method == "HEAD" || method == "OPTIONS") {
    exchange->reply = hub_->handler.handle(exchange->request, waker());
    exchange->begun = true;
    return;
  }
  asio::post(
      hub_->workers,
      [self = shared_from_this(), exchange = exchange]() mutable {
        auto reply =
            self->hub_->handler.handle(exchange->request, self->waker());
        auto executor = self->link_->socket().get_executor();
        asio::post(
            executor,
            [self = std::move(self),
             exchange = std::move(exchange),
             reply = std::move(reply)]() mutable {
              exchange->reply = std::move(reply);
              exchange->begun = true;
              self->signal();
            });
      });
}

Wake Connection::waker() {
  return [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->wake();
  };
}

// Takes what the answer has to say, framed.
void Connection::gather(Exchange& exchange) {
  if (!exchange.reply || exchange.ended) return;
  Outgoing out;
  exchange.reply->poll(out);
  if (out.again) {
    exchange.again = true;
    return;
  }
  const auto& request = exchange.request;
  auto before = pending_.size();
  if (out.head) {
    exchange.status = out.head->status;
    exchange.head_only = request.method == "HEAD";
    exchange.keep_alive = request.keep_alive && !out.close && !hub_->draining;
    std::optional<std::size_t> length;
    if (out.last) length = out.body.size();
    exchange.chunked = !length && !request.http10;
    if (!length && request.http10) exchange.keep_alive = false;
    pending_ +=
        format_head(*out.head, length, exchange.keep_alive, request.http10);
  }
  if (!exchange.head_only)
    pending_ += exchange.chunked ? chunk(out.body) : out.body;
  if (out.last) {
    exchange.ended = true;
    if (exchange.chunked && !exchange.head_only) pending_ += "0\r\n\r\n";
  }
  exchange.bytes += pending_.size() - before;
}

// Why the client is not served any longer, or null.
const char* Connection::given_up(const Exchange& exchange) const {
  auto now = Clock::now();
  const auto& limits = hub_->limits;
  if (broken_) return "client gone";
  if (closed_ && now >= closed_at_ + seconds(limits.half_closed_seconds))
    return "client gone";
  bool slow =
      pending_.size() > static_cast<std::size_t>(limits.stream_buffer) &&
      !exchange.ended;
  if (!writing_.empty())
    slow = slow || now >= write_started_ + seconds(limits.write_seconds);
  return slow ? "slow reader" : nullptr;
}

asio::awaitable<bool> Connection::answer(HttpRequest request) {
  auto exchange = std::make_shared<Exchange>();
  request.peer = peer_;
  exchange->request = std::move(request);
  begin(exchange);
  const char* outcome = "ok";
  auto stop_deadline = Clock::time_point::max();
  while (true) {
    if (hub_->stopping && exchange->begun && !exchange->stopped &&
        !exchange->ended) {
      exchange->stopped = true;
      exchange->reply->stop("The server is shutting down.");
      outcome = "stopped";
      stop_deadline = Clock::now() + 2 * tick;
    }
    gather(*exchange);
    if (std::exchange(exchange->again, false)) {
      exchange->begun = false;
      exchange->reply.reset();
      begin(exchange);
    }
    start_write();
    if (exchange->ended && writing_.empty() && pending_.empty()) break;
    // Until it has begun, the request is its worker's.
    if (auto* why = given_up(*exchange); why && exchange->begun) {
      outcome = why;
      break;
    }
    if (Clock::now() >= stop_deadline) break;
    start_read();
    auto next = Clock::now() + tick;
    if (closed_)
      next = std::min(
          next, closed_at_ + seconds(hub_->limits.half_closed_seconds));
    co_await wait(next);
  }
  record(*exchange, outcome);
  bool whole = exchange->ended && writing_.empty() && !broken_;
  exchange->reply.reset();
  if (!whole) broken_ = true;
  co_return whole && exchange->keep_alive && !closed_;
}

void Connection::record(const Exchange& exchange, const char* outcome) {
  if (!hub_->log) return;
  const auto& request = exchange.request;
  AccessRecord record{
      .id = request.id,
      .peer = peer_,
      .client = request.client,
      .method = request.method,
      .path = request.path,
      .status = exchange.status,
      .outcome = outcome,
      .bytes = exchange.bytes,
      .seconds = std::chrono::duration<double>(Clock::now() - exchange.started)
                     .count(),
      .note = exchange.reply ? exchange.reply->note() : std::string()};
  hub_->log(record);
}

// An answer that is followed by a reset may be lost before it is read: say that
// nothing more comes, and read for a moment what the client still sends.
asio::awaitable<void> Connection::linger() {
  error_code error;
  auto deadline = Clock::now() + tick;
  if (!broken_) {
    link_->socket().shutdown(Socket::shutdown_send, error);
    std::size_t dropped = 0;
    while (!closed_ && dropped < read_ahead && Clock::now() < deadline) {
      dropped += input_.size();
      input_.clear();
      start_read();
      co_await wait(deadline);
    }
  }
  link_->socket().cancel(error);
  while (reading_ || !writing_.empty()) {
    co_await wait(Clock::now() + tick);
    link_->socket().close(error);
  }
}

} // namespace mlxlm::serve

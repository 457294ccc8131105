// For tests: a server on a socket with an engine that needs no model, and a
// client that writes and reads bytes.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "serve/server.h"
#include "serve/service.h"
#include "serve/testing.h"

namespace mlxlm::serve::testing {

using namespace std::chrono_literals;

struct RunningServer {
  explicit RunningServer(
      std::chrono::microseconds step = 200us,
      ServiceOptions service_options = {},
      ServerOptions server_options = {})
      : engine(std::make_shared<FakeEngine>(step)), service(service_options) {
    service.set_engine(engine);
    server_options.port = 0;
    server_options.limits = service_options.limits;
    server.emplace(server_options, service);
  }
  // What runs has been let go.
  bool settled(std::chrono::milliseconds time = 60s) {
    for (auto waited = 0ms; waited < time; waited += 10ms) {
      if (engine->running() == 0 && service.admitted() == 0 &&
          service.statistics().activities().empty())
        return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  std::shared_ptr<FakeEngine> engine;
  Service service;
  std::optional<Server> server;
};

class SocketClient {
 public:
  explicit SocketClient(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
      close();
  }
  ~SocketClient() {
    close();
  }
  SocketClient(SocketClient&& other) noexcept
      : got(std::move(other.got)), socket_(std::exchange(other.socket_, -1)) {}

  bool connected() const {
    return socket_ >= 0;
  }
  int socket() const {
    return socket_;
  }
  void send(const std::string& data) {
    ASSERT_EQ(
        ::send(socket_, data.data(), data.size(), MSG_NOSIGNAL),
        static_cast<ssize_t>(data.size()));
  }
  // One read; false at the end.
  bool read() {
    char buffer[8192];
    auto n = ::recv(socket_, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    got.append(buffer, static_cast<std::size_t>(n));
    return true;
  }
  const std::string& read_all() {
    while (read()) {
    }
    return got;
  }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  std::string got;

 private:
  int socket_;
};

inline std::string post_request(
    const std::string& path,
    const std::string& body,
    const std::string& more = "Connection: close\r\n") {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{}",
      path,
      more,
      body.size(),
      body);
}

inline std::string ask(int port, const std::string& request) {
  SocketClient client(port);
  client.send(request);
  return client.read_all();
}

inline std::string chat_request(const std::string& text, bool stream) {
  Json body = {
      {"messages", Json::array({{{"role", "user"}, {"content", text}}})},
      {"stream", stream}};
  return post_request("/v1/chat/completions", body.dump());
}

// All that a stream's content deltas say.
inline std::string content_of(const std::string& stream) {
  std::string out;
  for (std::size_t at = 0;
       (at = stream.find("data: {", at)) != std::string::npos;) {
    auto end = stream.find("\n\n", at);
    auto event = Json::parse(stream.substr(at + 6, end - at - 6));
    for (const auto& choice : event["choices"])
      if (choice["delta"].contains("content"))
        out += choice["delta"]["content"].get<std::string>();
    at = end;
  }
  return out;
}

} // namespace mlxlm::serve::testing

// The server over real sockets with an engine that needs no model.
#include "serve/server.h"

#include <poll.h>
#include <sys/resource.h>

#include "serve/socket_testing.h"

namespace mlxlm::serve {
namespace {

using namespace std::chrono_literals;
using testing::ask;
using testing::chat_request;
using testing::content_of;
using testing::RunningServer;
using testing::SocketClient;

TEST(Server, AnswersWholeAndStreamed) {
  RunningServer running;
  int port = running.server->port();
  auto whole = ask(port, chat_request("hello there", false));
  EXPECT_NE(whole.find("\"content\":\"hello there\""), whole.npos) << whole;
  auto stream = ask(port, chat_request("hello there", true));
  EXPECT_EQ(content_of(stream), "hello there");
  EXPECT_NE(stream.find("data: [DONE]\n\n\r\n0\r\n\r\n"), stream.npos);
  EXPECT_TRUE(running.settled());
}

TEST(Server, FailureInAStreamIsAnEvent) {
  RunningServer running;
  running.engine->fails = true;
  auto stream = ask(running.server->port(), chat_request("hello", true));
  EXPECT_NE(stream.find("data: {\"error\":"), stream.npos);
  EXPECT_NE(stream.find("data: [DONE]\n\n\r\n0\r\n\r\n"), stream.npos);
  auto whole = ask(running.server->port(), chat_request("hello", false));
  EXPECT_EQ(whole.find("HTTP/1.1 500 "), 0u);
  EXPECT_EQ(whole.find("injected"), whole.npos); // what the log says
  running.engine->fails = false;
  EXPECT_EQ(
      content_of(ask(running.server->port(), chat_request("hi", true))), "hi");
  EXPECT_TRUE(running.settled());
}

TEST(Server, HangIsUnhealthy) {
  ServiceOptions options;
  options.limits.watchdog_seconds = 1;
  RunningServer running(200us, options);
  running.engine->hangs = true;
  SocketClient waiting(running.server->port());
  waiting.send(chat_request("hello", true));
  auto get = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  auto health = [&] {
    auto text = ask(
        running.server->port(),
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    return text.substr(9, 3);
  };
  EXPECT_EQ(ask(running.server->port(), get).substr(9, 3), "403");
  for (auto end = std::chrono::steady_clock::now() + 60s;
       health() != "503" && std::chrono::steady_clock::now() < end;)
    std::this_thread::sleep_for(20ms);
  EXPECT_EQ(health(), "503");
  running.engine->hangs = false;
  waiting.read_all();
  EXPECT_EQ(health(), "200");
}

TEST(Server, ClientsThatLeaveAreLetGo) {
  RunningServer running(1ms);
  std::string text(3000, 'x');
  for (int round = 0; round < 3; ++round) {
    std::vector<SocketClient> clients;
    for (int i = 0; i < 100; ++i) {
      clients.emplace_back(running.server->port());
      clients.back().send(chat_request(text, i % 2));
    }
    for (int i = 0; i < 50; ++i)
      clients[static_cast<std::size_t>(i)].close(); // before or while it begins
    std::this_thread::sleep_for(50ms);
    clients.clear();
    EXPECT_TRUE(running.settled());
  }
}

TEST(Server, DrainEndsWithEverythingSaid) {
  RunningServer running(1ms);
  SocketClient client(running.server->port());
  client.send(chat_request(std::string(300, 'y'), true));
  ASSERT_TRUE(client.read());
  EXPECT_TRUE(running.server->drain());
  EXPECT_EQ(content_of(client.read_all()), std::string(300, 'y'));
}

// Two thousand streams at once, or as many as the system's limits allow: none
// lost, doubled or crossed.
TEST(Server, ManyStreams) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  auto count = std::min<std::size_t>(2000, (limit.rlim_cur - 100) / 2);
  ServiceOptions options;
  options.limits.queue_per_client = 1 << 20;
  RunningServer running(20ms, options);
  std::vector<SocketClient> clients;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    texts.push_back(fmt::format("this is the answer of number {}", i));
    clients.emplace_back(running.server->port());
    ASSERT_TRUE(clients.back().connected()) << i;
    clients.back().send(chat_request(texts.back(), true));
  }
  std::size_t left = count;
  std::vector<pollfd> polls;
  for (auto& client : clients)
    polls.push_back({client.socket(), POLLIN, 0});
  auto deadline = std::chrono::steady_clock::now() + 120s;
  while (left > 0 && std::chrono::steady_clock::now() < deadline) {
    ::poll(polls.data(), polls.size(), 1000);
    for (std::size_t i = 0; i < count; ++i) {
      if (!polls[i].revents) continue;
      if (clients[i].read()) continue;
      polls[i].fd = -1;
      --left;
    }
  }
  EXPECT_EQ(left, 0u);
  for (std::size_t i = 0; i < count; ++i)
    ASSERT_EQ(content_of(clients[i].got), texts[i]) << clients[i].got;
  EXPECT_TRUE(running.settled());
}

} // namespace
} // namespace mlxlm::serve

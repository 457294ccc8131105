// Clients of a model that has to be loaded first, over real sockets.
#include <atomic>
#include <future>

#include "serve/socket_testing.h"

namespace mlxlm::serve {
namespace {

using namespace std::chrono_literals;
using testing::ask;
using testing::content_of;
using testing::FakeEngine;
using testing::post_request;
using testing::RunningServer;
using testing::SocketClient;

// Two models, of which `second` loads when it is let.
struct SlowShelf {
  SlowShelf() {
    ModelsOptions options;
    for (const char* name : {"fake", "second"}) {
      EngineFacts facts;
      facts.model = name;
      options.models.push_back({facts});
    }
    options.load =
        [this](const EngineFacts&, const std::string&, const EnginePtr&) {
          ++loads;
          gate.wait();
          if (fails)
            fail(ErrorKind::weights, "/secret/file", "expected it whole");
          return std::make_shared<FakeEngine>(200us);
        };
    models = std::make_shared<Models>(std::move(options));
  }
  static std::string request(bool stream = false) {
    Json body = {
        {"model", "second"},
        {"messages", Json::array({{{"role", "user"}, {"content", "hello"}}})},
        {"stream", stream}};
    return post_request("/v1/chat/completions", body.dump());
  }

  std::promise<void> go;
  std::shared_future<void> gate = go.get_future().share();
  std::atomic<int> loads{0};
  std::atomic<bool> fails{false};
  ModelsPtr models;
};

TEST(ServerLoading, AModelThatLoadsIsWaitedFor) {
  SlowShelf shelf;
  RunningServer running;
  running.service.set_models(shelf.models);
  int port = running.server->port();
  std::vector<SocketClient> clients;
  for (int i = 0; i < 10; ++i) {
    clients.emplace_back(port);
    clients.back().send(SlowShelf::request(i % 2));
  }
  clients[4].close();
  while (shelf.loads == 0)
    std::this_thread::sleep_for(1ms);
  auto health = ask(
      port,
      "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(health.substr(9, 3), "200"); // nobody else waits
  shelf.go.set_value();
  for (int i = 0; i < 10; ++i) {
    if (i == 4) continue;
    auto& client = clients[static_cast<std::size_t>(i)];
    const auto& got = client.read_all();
    EXPECT_EQ(got.substr(9, 3), "200") << got;
    if (i % 2)
      EXPECT_EQ(content_of(got), "hello");
    else
      EXPECT_NE(got.find("\"content\":\"hello\""), got.npos) << got;
  }
  EXPECT_EQ(shelf.loads, 1);
  EXPECT_TRUE(running.settled());
}

TEST(ServerLoading, AModelThatCannotBeLoadedIsAnError) {
  SlowShelf shelf;
  shelf.fails = true;
  shelf.go.set_value();
  RunningServer running;
  running.service.set_models(shelf.models);
  int port = running.server->port();
  auto got = ask(port, SlowShelf::request());
  EXPECT_EQ(got.substr(9, 3), "500");
  EXPECT_NE(got.find("model_not_loaded"), got.npos);
  EXPECT_EQ(got.find("secret"), got.npos);
  shelf.fails = false;
  EXPECT_EQ(ask(port, SlowShelf::request()).substr(9, 3), "200");
}

TEST(ServerLoading, AStreamThatWaitsForItsModelShowsSignsOfLife) {
  for (bool fails : {false, true}) {
    SlowShelf shelf;
    shelf.fails = fails;
    ServiceOptions options;
    options.limits.ping_seconds = 1;
    RunningServer running(200us, options);
    running.service.set_models(shelf.models);
    SocketClient stream(running.server->port()), whole(running.server->port());
    stream.send(SlowShelf::request(true));
    whole.send(SlowShelf::request());
    while (stream.got.find(": keepalive loading\n\n") == stream.got.npos)
      ASSERT_TRUE(stream.read()) << stream.got;
    EXPECT_EQ(stream.got.find("HTTP/1.1 200 "), 0u);
    shelf.go.set_value();
    const auto& got = stream.read_all();
    EXPECT_EQ(got.rfind("HTTP/1.1"), 0u) << got; // one head
    EXPECT_NE(got.find("data: [DONE]\n\n\r\n0\r\n\r\n"), got.npos) << got;
    EXPECT_EQ(
        whole.read_all().find(fails ? "HTTP/1.1 500" : "HTTP/1.1 200"), 0u);
    if (fails)
      EXPECT_NE(got.find("model_not_loaded"), got.npos) << got;
    else
      EXPECT_EQ(content_of(got), "hello");
    EXPECT_TRUE(running.settled());
  }
}

} // namespace
} // namespace mlxlm::serve

// The server over real sockets with an engine that needs no model.
#include "serve/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include <future>

#include "serve/service.h"
#include "serve/testing.h"
#include "text/tools/tool_format.h"

namespace mlxlm::serve {
namespace {

using testing::FakeEngine;
using namespace std::chrono_literals;

struct Running {
  explicit Running(
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
  bool settled(std::chrono::milliseconds time = 3000ms) {
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

class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
      close();
  }
  ~Client() {
    close();
  }
  Client(Client&& other) noexcept
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

std::string post(
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

std::string ask(int port, const std::string& request) {
  Client client(port);
  client.send(request);
  return client.read_all();
}

std::string chat(const std::string& text, bool stream) {
  Json body = {
      {"messages", Json::array({{{"role", "user"}, {"content", text}}})},
      {"stream", stream}};
  return post("/v1/chat/completions", body.dump());
}

// All that a stream's content deltas say.
std::string content_of(const std::string& stream) {
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

TEST(Server, AnswersWholeAndStreamed) {
  Running running;
  int port = running.server->port();
  auto whole = ask(port, chat("hello there", false));
  EXPECT_NE(whole.find("\"content\":\"hello there\""), whole.npos) << whole;
  auto stream = ask(port, chat("hello there", true));
  EXPECT_EQ(content_of(stream), "hello there");
  EXPECT_NE(stream.find("data: [DONE]\n\n\r\n0\r\n\r\n"), stream.npos);
  EXPECT_TRUE(running.settled());
}

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
    return post("/v1/chat/completions", body.dump());
  }

  std::promise<void> go;
  std::shared_future<void> gate = go.get_future().share();
  std::atomic<int> loads{0};
  std::atomic<bool> fails{false};
  ModelsPtr models;
};

TEST(Server, AModelThatLoadsIsWaitedFor) {
  SlowShelf shelf;
  Running running;
  running.service.set_models(shelf.models);
  int port = running.server->port();
  std::vector<Client> clients;
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

TEST(Server, AModelThatCannotBeLoadedIsAnError) {
  SlowShelf shelf;
  shelf.fails = true;
  shelf.go.set_value();
  Running running;
  running.service.set_models(shelf.models);
  int port = running.server->port();
  auto got = ask(port, SlowShelf::request());
  EXPECT_EQ(got.substr(9, 3), "500");
  EXPECT_NE(got.find("model_not_loaded"), got.npos);
  EXPECT_EQ(got.find("secret"), got.npos);
  shelf.fails = false;
  EXPECT_EQ(ask(port, SlowShelf::request()).substr(9, 3), "200");
}

TEST(Server, AStreamThatWaitsForItsModelShowsSignsOfLife) {
  for (bool fails : {false, true}) {
    SlowShelf shelf;
    shelf.fails = fails;
    ServiceOptions options;
    options.limits.ping_seconds = 1;
    Running running(200us, options);
    running.service.set_models(shelf.models);
    Client stream(running.server->port()), whole(running.server->port());
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

TEST(Server, FailureInAStreamIsAnEvent) {
  Running running;
  running.engine->fails = true;
  auto stream = ask(running.server->port(), chat("hello", true));
  EXPECT_NE(stream.find("data: {\"error\":"), stream.npos);
  EXPECT_NE(stream.find("data: [DONE]\n\n\r\n0\r\n\r\n"), stream.npos);
  auto whole = ask(running.server->port(), chat("hello", false));
  EXPECT_EQ(whole.find("HTTP/1.1 500 "), 0u);
  EXPECT_EQ(whole.find("injected"), whole.npos); // what the log says
  running.engine->fails = false;
  EXPECT_EQ(content_of(ask(running.server->port(), chat("hi", true))), "hi");
  EXPECT_TRUE(running.settled());
}

TEST(Server, HangIsUnhealthy) {
  ServiceOptions options;
  options.limits.watchdog_seconds = 1;
  Running running(200us, options);
  running.engine->hangs = true;
  Client waiting(running.server->port());
  waiting.send(chat("hello", true));
  std::this_thread::sleep_for(1500ms);
  auto get = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  auto health = [&] {
    auto text = ask(
        running.server->port(),
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    return text.substr(9, 3);
  };
  EXPECT_EQ(ask(running.server->port(), get).substr(9, 3), "403");
  EXPECT_EQ(health(), "503");
  running.engine->hangs = false;
  waiting.read_all();
  EXPECT_EQ(health(), "200");
}

TEST(Server, ClientsThatLeaveAreLetGo) {
  Running running(1ms);
  std::string text(3000, 'x');
  for (int round = 0; round < 3; ++round) {
    std::vector<Client> clients;
    for (int i = 0; i < 100; ++i) {
      clients.emplace_back(running.server->port());
      clients.back().send(chat(text, i % 2));
    }
    for (int i = 0; i < 50; ++i)
      clients[static_cast<std::size_t>(i)].close(); // before or while it begins
    std::this_thread::sleep_for(50ms);
    clients.clear();
    EXPECT_TRUE(running.settled());
  }
}

TEST(Server, DrainEndsWithEverythingSaid) {
  Running running(1ms);
  Client client(running.server->port());
  client.send(chat(std::string(300, 'y'), true));
  ASSERT_TRUE(client.read());
  EXPECT_TRUE(running.server->drain());
  EXPECT_EQ(content_of(client.read_all()), std::string(300, 'y'));
}

// The echoing engine says what a model that thinks and calls tools would say.
class Caller : public ::testing::Test {
 protected:
  Caller() {
    running.engine->speak(
        {find_reasoning_format("think"), find_tool_format("json_tools")});
  }

  // The answer to `body` with the text as the last message.
  std::string ask_with(const std::string& path, Json body) {
    body["messages"] = Json::array({{{"role", "user"}, {"content", text}}});
    body["max_tokens"] = 1000;
    return body_of(ask(running.server->port(), post(path, body.dump())));
  }
  static std::string body_of(const std::string& response) {
    EXPECT_EQ(response.find("HTTP/1.1 200 "), 0u) << response;
    return response.substr(response.find("\r\n\r\n") + 4);
  }

  const std::string text =
      "<think>hm</think>Let me see.<tool_call>{\"name\": \"look\", "
      "\"arguments\": {\"where\": \"up\"}}</tool_call>";
  const Json function = {
      {"name", "look"},
      {"parameters", {{"type", "object"}}}};
  const Json tools =
      Json::array({{{"type", "function"}, {"function", function}}});
  Running running;
};

TEST_F(Caller, OpenAi) {
  auto whole =
      Json::parse(ask_with("/v1/chat/completions", {{"tools", tools}}));
  auto choice = whole["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  auto message = choice["message"];
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(message["content"], "Let me see.");
  auto called = message["tool_calls"][0]["function"];
  EXPECT_EQ(called["name"], "look");
  EXPECT_EQ(Json::parse(called["arguments"].get<std::string>())["where"], "up");
  EXPECT_GT(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);

  auto stream =
      ask_with("/v1/chat/completions", {{"tools", tools}, {"stream", true}});
  EXPECT_EQ(content_of(stream), "Let me see.");
  EXPECT_NE(stream.find("\"finish_reason\":\"tool_calls\""), stream.npos);
  EXPECT_NE(stream.find("\"name\":\"look\""), stream.npos);
  EXPECT_EQ(stream.find("tool_call>"), stream.npos);

  // Without tools the marks are text.
  auto plain = Json::parse(ask_with("/v1/chat/completions", Json::object()));
  EXPECT_EQ(plain["choices"][0]["finish_reason"], "stop");
  EXPECT_NE(
      plain["choices"][0]["message"]["content"].dump().find("<tool_call>"),
      std::string::npos);
}

TEST_F(Caller, Anthropic) {
  Json tool = {{"name", "look"}, {"input_schema", {{"type", "object"}}}};
  Json body = {{"tools", Json::array({tool})}};
  auto whole = Json::parse(ask_with("/v1/messages", body));
  EXPECT_EQ(whole["stop_reason"], "tool_use");
  ASSERT_EQ(whole["content"].size(), 3u) << whole;
  EXPECT_EQ(whole["content"][0]["thinking"], "hm");
  EXPECT_EQ(whole["content"][1]["text"], "Let me see.");
  EXPECT_EQ(whole["content"][2]["input"]["where"], "up");

  body["stream"] = true;
  auto stream = ask_with("/v1/messages", body);
  auto count = [&](std::string_view word) {
    int n = 0;
    for (std::size_t at = 0; (at = stream.find(word, at)) != stream.npos; ++at)
      ++n;
    return n;
  };
  EXPECT_EQ(count("event: content_block_start"), 3);
  EXPECT_EQ(count("event: content_block_stop"), 3);
  EXPECT_GT(count("input_json_delta"), 0);
  EXPECT_EQ(count("\"stop_reason\":\"tool_use\""), 1);
}

TEST_F(Caller, OllamaAndResponses) {
  Json body = {{"tools", tools}, {"model", "fake"}, {"stream", false}};
  auto whole = Json::parse(ask_with("/api/chat", body));
  EXPECT_EQ(whole["message"]["thinking"], "hm");
  EXPECT_EQ(
      whole["message"]["tool_calls"][0]["function"]["arguments"]["where"],
      "up");

  auto flat = function;
  flat["type"] = "function";
  Json input = {{"tools", Json::array({flat})}, {"input", text}};
  auto response = Json::parse(body_of(
      ask(running.server->port(), post("/v1/responses", input.dump()))));
  ASSERT_EQ(response["output"].size(), 3u) << response;
  EXPECT_EQ(response["output"][0]["type"], "reasoning");
  EXPECT_EQ(response["output"][1]["content"][0]["text"], "Let me see.");
  EXPECT_EQ(response["output"][2]["name"], "look");
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
  Running running(20ms, options);
  std::vector<Client> clients;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    texts.push_back(fmt::format("this is the answer of number {}", i));
    clients.emplace_back(running.server->port());
    ASSERT_TRUE(clients.back().connected()) << i;
    clients.back().send(chat(texts.back(), true));
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

// What every API makes of an answer that thinks and calls tools, over real
// sockets.
#include "serve/socket_testing.h"
#include "text/tools/tool_format.h"

namespace mlxlm::serve {
namespace {

using testing::ask;
using testing::content_of;
using testing::post_request;
using testing::RunningServer;

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
    return body_of(
        ask(running.server->port(), post_request(path, body.dump())));
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
  RunningServer running;
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
  auto response = Json::parse(body_of(ask(
      running.server->port(), post_request("/v1/responses", input.dump()))));
  ASSERT_EQ(response["output"].size(), 3u) << response;
  EXPECT_EQ(response["output"][0]["type"], "reasoning");
  EXPECT_EQ(response["output"][1]["content"][0]["text"], "Let me see.");
  EXPECT_EQ(response["output"][2]["name"], "look");
}

} // namespace
} // namespace mlxlm::serve

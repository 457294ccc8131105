// The parts of the server that need no sockets.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "serve/access.h"
#include "serve/body.h"
#include "serve/gate.h"
#include "serve/request_reader.h"
#include "serve/sampling.h"

namespace mlxlm::serve {
namespace {

TEST(RequestReader, OneByteAtATime) {
  Limits limits;
  std::string text =
      "POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Two: 2\r\nContent-Length: 5\r\n\r\nhelloGET ";
  for (std::size_t step : {std::size_t{1}, std::size_t{7}, text.size()}) {
    RequestReader reader(limits);
    std::string input;
    std::size_t at = 0;
    while (reader.state() != RequestReader::State::done && at < text.size()) {
      input += text.substr(at, step);
      at += step;
      input.erase(0, reader.feed(input));
    }
    ASSERT_EQ(reader.state(), RequestReader::State::done) << step;
    auto request = reader.take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.target, "/a?b=c");
    EXPECT_EQ(request.body, "hello");
    EXPECT_EQ(*request.header("x-two"), "2");
    EXPECT_EQ(input, std::string("GET ").substr(0, input.size()));
  }
}

TEST(RequestReader, Refusals) {
  Limits limits;
  auto status = [&](const std::string& text) {
    RequestReader reader(limits);
    reader.feed(text);
    return reader.state() == RequestReader::State::refused ? reader.status()
                                                           : 0;
  };
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: x\r\n"), 0);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"), 400);
  EXPECT_EQ(status("POST / HTTP/1.1\r\n\r\n"), 411);
  EXPECT_EQ(status("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"), 413);
  EXPECT_EQ(status("GET /" + std::string(20000, 'a')), 414);
  EXPECT_EQ(
      status("GET / HTTP/1.1\r\nX: " + std::string(20000, 'a') + "\r\n\r\n"),
      431);
  EXPECT_EQ(
      status(
          "POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n"),
      415);
  for (const char* headers :
       {"Content-Length: 5,5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: +5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity"})
    for (const char* version : {"1.0", "1.1"})
      EXPECT_EQ(
          status(
              "POST / HTTP/" + std::string(version) + "\r\n" + headers +
              "\r\n\r\n"),
          400)
          << headers;
  EXPECT_EQ(
      status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(status("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"), 0);
}

TEST(Paths, Normalized) {
  EXPECT_EQ(normalize_path("//v1//models/?x=1"), "/v1/models");
  EXPECT_EQ(normalize_path("/"), "/");
  EXPECT_EQ(normalize_path("/%76%31"), "/v1");
  for (const char* bad :
       {"",
        "v1",
        "/..",
        "/a/../b",
        "/%2e%2e/x",
        "/a/./b",
        "/%0a",
        "/%",
        "/%zz",
        "/a\\b",
        "/%c3%a4"})
    EXPECT_FALSE(normalize_path(bad)) << bad;
}

TEST(Access, Keys) {
  auto keys = parse_keys("# comment\nann:one\n\ntwo, bob:three\n");
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys[1].name, "key2");
  HttpRequest request;
  auto who = [&](Headers headers) {
    request.headers = std::move(headers);
    const auto* key = find_key(keys, request);
    return key ? key->name : std::string("-");
  };
  EXPECT_EQ(who({{"authorization", "Bearer one"}}), "ann");
  EXPECT_EQ(who({{"authorization", "bearer  three "}}), "bob");
  EXPECT_EQ(who({{"x-api-key", "two"}}), "key2");
  EXPECT_EQ(who({}), "-");
  EXPECT_EQ(who({{"authorization", "Bearer"}}), "-");
  EXPECT_EQ(who({{"authorization", "Bearer on"}}), "-");
  EXPECT_EQ(who({{"authorization", "Bearer one"}, {"x-api-key", "one"}}), "-");
  EXPECT_THROW(parse_keys("a:" + std::string(600, 'x')), Error);
}

TEST(Access, TermsOfKeys) {
  auto keys = parse_keys(
      "a:one answers=3  until=1970-01-02\nb:two until=2038-01-19T03:14:08Z\n"
      "c admin private\nd:four salt=x=y");
  ASSERT_EQ(keys.size(), 4u);
  EXPECT_EQ(keys[0].secret, "one");
  EXPECT_EQ(keys[0].answers, 3);
  EXPECT_EQ(keys[0].until, 86400);
  EXPECT_EQ(keys[1].until, std::int64_t{1} << 31);
  EXPECT_EQ(keys[2].answers, 0);
  EXPECT_FALSE(keys[2].until);
  EXPECT_TRUE(keys[2].admin && !keys[0].admin);
  EXPECT_EQ(keys[0].salt, "");
  EXPECT_EQ(keys[2].salt, "key c");
  EXPECT_EQ(keys[3].salt, "salt x=y");
  for (const char* bad :
       {"a:b c",
        "a:b answers=0",
        "a:b answers=-1",
        "a:b answers=x",
        "a:b answers",
        "a:b until=1970-02-30",
        "a:b until=1970-1-01",
        "a:b until=1970-01-01T24:00:00Z",
        "a:b until=1970-01-01 00:00:00",
        "a:b =",
        "a:b admin=1",
        "a:b Admin",
        "a:b private=yes",
        "a:b private salt=x",
        "a:b salt=",
        "a:b salt",
        "a:b until="})
    EXPECT_THROW(parse_keys(bad), Error) << bad;
}

TEST(Access, NamesOfKeysWithoutOne) {
  auto keys = parse_keys("one\nkey2:two\nthree");
  for (auto& more : parse_keys("four\nann:one"))
    keys.push_back(more);
  int last = 0;
  name_keys(keys, {}, last);
  auto names = [](const std::vector<Key>& keys) {
    std::vector<std::string> out;
    for (const auto& key : keys)
      out.push_back(key.name);
    return out;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(keys), (Names{"key1", "key2", "key3", "key4", "ann"}));
  // One has gone, one has come.
  auto later = parse_keys("five\nfour\nthree\nkey2:six\ntwo");
  name_keys(later, keys, last);
  EXPECT_EQ(names(later), (Names{"key5", "key4", "key3", "key2", "key6"}));
  auto last_of_all = parse_keys("key5:seven\nfive\none");
  name_keys(last_of_all, later, last);
  EXPECT_EQ(names(last_of_all), (Names{"key5", "key7", "key8"}));
}

// Welch's t of the times that two wrong keys take, measured in turns: one wrong
// from its first byte on, one but for its last.
double timing_difference() {
  auto keys = parse_keys("ann:" + std::string(64, 'k'));
  HttpRequest first, last;
  first.headers = {{"x-api-key", "x" + std::string(63, 'k')}};
  last.headers = {{"x-api-key", std::string(63, 'k') + "x"}};
  constexpr int blocks = 400, calls = 100;
  double sum[2] = {}, squares[2] = {};
  for (int i = 0; i < 2 * blocks; ++i) {
    const auto& request = i % 2 ? last : first;
    auto begin = std::chrono::steady_clock::now();
    for (int call = 0; call < calls; ++call)
      EXPECT_EQ(find_key(keys, request), nullptr);
    double time = std::chrono::duration<double, std::nano>(
                      std::chrono::steady_clock::now() - begin)
                      .count();
    time = std::min(time, calls * 20000.0); // somebody else had the processor
    sum[i % 2] += time;
    squares[i % 2] += time * time;
  }
  double means[2], errors = 0;
  for (int k = 0; k < 2; ++k) {
    means[k] = sum[k] / blocks;
    errors += (squares[k] / blocks - means[k] * means[k]) / (blocks - 1);
  }
  return std::abs(means[0] - means[1]) / std::sqrt(errors);
}

TEST(Access, WrongKeysTakeTheSameTime) {
  double least = 1e9;
  for (int i = 0; i < 5 && least > 4.5; ++i)
    least = std::min(least, timing_difference());
  EXPECT_LT(least, 4.5);
}

TEST(Access, Hosts) {
  EXPECT_EQ(host_name("LocalHost:80"), "localhost");
  EXPECT_EQ(host_name("[::1]:80"), "[::1]");
  EXPECT_EQ(host_name("a:b"), "");
  EXPECT_EQ(host_name("a@b"), "");
  EXPECT_TRUE(is_loopback_name("127.1.2.3"));
  EXPECT_FALSE(is_loopback_name("127.0.0.1.nip.io"));
  EXPECT_TRUE(is_open_bind("0.0.0.0"));
  EXPECT_FALSE(is_open_bind("unix:/x"));
}

TEST(Gate, FairAndBounded) {
  auto gate = std::make_shared<Gate>();
  GateLimits limits{.slots = 2, .queue = 6, .queue_per_client = 4};
  std::string reason;
  int wakes = 0;
  auto enter = [&](const char* client, int count, int priority = 0) {
    return gate->enter(
        client, count, priority, limits, [&] { ++wakes; }, reason);
  };
  auto a = enter("a", 5); // two are ready, three wait
  ASSERT_EQ(a.size(), 5u);
  EXPECT_TRUE(a[0]->ready() && a[1]->ready() && !a[2]->ready());
  EXPECT_TRUE(enter("a", 2).empty());
  EXPECT_EQ(reason, "queue_per_client");
  auto b = enter("b", 2);
  EXPECT_TRUE(enter("c", 2).empty());
  EXPECT_EQ(reason, "queue");
  auto c = enter("c", 1, -1);
  EXPECT_EQ(wakes, 0);
  a[0].reset(); // the first by priority
  EXPECT_TRUE(c[0]->ready());
  c[0].reset(); // then whoever has fewest
  EXPECT_TRUE(b[0]->ready() && !a[2]->ready());
  b[1].reset(); // gives up waiting
  a[1].reset();
  EXPECT_TRUE(a[2]->ready());
  EXPECT_EQ(wakes, 3);
  a.clear();
  b.clear();
  EXPECT_EQ(gate->ready() + gate->waiting(), 0);
}

TEST(Body, UnknownAndNested) {
  auto json = parse_body(R"({"a":1,"b":{"c":"x"},"d":null,"e":5})", 8);
  Body body(json);
  EXPECT_EQ(body.integer("a", 0, 2), 1);
  Body inner(*body.object("b"), "b");
  try {
    inner.integer("c", 0, 1);
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.param, "b.c");
    EXPECT_EQ(error.status, 400);
  }
  EXPECT_EQ(body.unknown(), (std::vector<std::string>{"d", "e"}));
}

TEST(Sampling, ReadsEverySetting) {
  auto json = parse_body(
      R"({"temperature":0.5,"top_k":3,"stop":["a","b"],"logit_bias":{"7":-3},
          "seed":-1,"max_tokens":5,"max_completion_tokens":6,
          "presence_penalty":1.5,"xtc_probability":0.25})",
      8);
  Body body(json);
  auto p = read_sampling(body, {}, {});
  EXPECT_EQ(p.sampling.temperature, 0.5);
  EXPECT_EQ(p.sampling.top_k, 3);
  EXPECT_EQ(p.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(p.sampling.logit_bias[0], std::pair(7, -3.f));
  EXPECT_EQ(p.seed, ~std::uint64_t{0});
  EXPECT_EQ(p.max_tokens, 6);
  EXPECT_EQ(p.sampling.presence_penalty, 1.5f);
  EXPECT_EQ(p.sampling.xtc_probability, 0.25f);
  EXPECT_TRUE(body.unknown().empty());
}

} // namespace
} // namespace mlxlm::serve

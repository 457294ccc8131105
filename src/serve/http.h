// Requests and answers of HTTP as values; nothing here knows of sockets.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxlm::serve {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method; // "GET"
  std::string target; // as it came: "/v1/models?x=1"
  std::string path; // normalized, without the query
  std::string query;
  Headers headers; // names in lower case
  std::string body;
  bool keep_alive = true;
  bool http10 = false; // takes no chunks

  std::string peer; // address, or "unix"
  std::string id; // x-request-id
  std::string owner; // name of the key, or empty: whose is what is kept
  std::string client; // name of the key, or the peer: who shares a queue
  int answers = 0; // that the key may have under way or waiting; 0: no limit
  bool sees_all = false; // of others' requests, not only of its own
  std::string salt; // of the key: whose prefixes it may find
  // What one that begins anew was waiting for: kept until it has begun.
  std::shared_ptr<void> held;
  bool wants_stream = false; // as its body says, once it has been read
  // The head of its stream is out already.
  bool streaming = false;

  // The first header of this (lower-case) name, or nothing.
  const std::string* header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (key == name) return &value;
    return nullptr;
  }
  int count(std::string_view name) const {
    int n = 0;
    for (const auto& [key, value] : headers)
      n += key == name;
    return n;
  }
};

struct Head {
  int status = 200;
  Headers headers;
};

// Of a stream: nothing on the way keeps it back. `headers`: more of them.
Head stream_head(const std::string& media_type, Headers headers = {});

// What is ready to be sent. An answer that gives head and last in one call is
// sent with its length, any other in chunks.
struct Outgoing {
  std::optional<Head> head;
  std::string body;
  bool last = false;
  bool close = false; // no further request on this connection
  // Nothing can be said yet: the request begins anew, with what it has held.
  bool again = false;
};

// An answer in the making. Lives on its connection; destroying it gives up what
// still runs.
class Reply {
 public:
  virtual ~Reply() = default;
  // Adds what is ready; called when woken and at least once a second.
  virtual void poll(Outgoing& out) = 0;
  // The answer must end now, as an error that says why.
  virtual void stop(std::string_view why) {}
  // What the access log tells beside status and time: "tokens=5".
  virtual std::string note() const {
    return {};
  }
};
using ReplyPtr = std::unique_ptr<Reply>;

// Has poll() called soon. May be called from any thread and any number of
// times, also after the end.
using Wake = std::function<void()>;

// Begins answers. Called on a worker thread; never throws.
class Handler {
 public:
  virtual ~Handler() = default;
  virtual ReplyPtr handle(HttpRequest& request, const Wake& wake) = 0;
  // A request that could not be read at all.
  virtual ReplyPtr refuse(int status, std::string_view message) = 0;
};

struct Response {
  int status = 200;
  Headers headers;
  std::string body;
  bool close = false;
};

// An answer that is complete at once.
class Ready final : public Reply {
 public:
  explicit Ready(Response response) : response_(std::move(response)) {}
  void poll(Outgoing& out) override {
    out.head = Head{response_.status, std::move(response_.headers)};
    out.body = std::move(response_.body);
    out.last = true;
    out.close = response_.close;
  }

 private:
  Response response_;
};

// "Not Found"
std::string_view reason_phrase(int status);

// The path without its query, "//" as "/", percent signs decoded once. Nothing
// for what must not be served: "..", control characters, bad escapes.
std::optional<std::string> normalize_path(std::string_view target);
std::string_view query_of(std::string_view target);

// Status line and headers. `length`: nothing is chunked (or, for HTTP/1.0,
// until the connection closes).
std::string format_head(
    const Head& head,
    std::optional<std::size_t> length,
    bool keep_alive,
    bool http10);
// A run of the body, framed.
std::string chunk(std::string_view body);

// A value that may stand in a header: printable ASCII, bounded.
std::string header_value(std::string_view text, std::size_t limit = 200);

} // namespace mlxlm::serve

// GET over libcurl with the hub's rules: redirects are followed here and only
// over http(s), the token goes to the endpoint alone, silence ends a transfer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "mlxlm/hub.h"

namespace mlxlm::hub {

struct HttpRequest {
  std::string url;
  std::uint64_t from = 0; // first byte wanted
  std::string if_range; // the ETag that the first bytes had
  double timeout = 10; // seconds without a byte
};

struct Answer {
  long status = 0; // 0: there was no answer
  std::map<std::string, std::string> headers; // lower-case names; last hop
  std::map<std::string, std::string> hub; // the endpoint's own hops
  std::string url; // of the last hop, for people: no query
  std::string problem; // why the transfer broke; empty: it came to its end
  bool permanent = false; // trying again will not help

  std::string header(std::string_view name) const;
};

[[noreturn]] void throw_interrupted();

// Takes the body of a 200 or 206. Either may throw to end the transfer.
class BodySink {
 public:
  virtual ~BodySink() = default;
  virtual void begin(const Answer& answer) = 0;
  virtual void write(std::span<const std::byte> bytes) = 0;
};

// One connection at a time, kept for the next request. For one thread.
class HttpClient {
 public:
  // `stopped` is asked about once a second during a transfer.
  HttpClient(const HubOptions& options, std::function<bool()> stopped);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Rethrows what the sink threw. Throws Interrupted when stopped.
  Answer get(const HttpRequest& request, BodySink& sink);
  // A whole small body. Retries are the caller's.
  Answer get_text(
      const HttpRequest& request,
      std::size_t most_bytes,
      std::string& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace mlxlm::hub

// Listens, reads requests, sends answers. Two I/O threads, a few workers that
// begin answers; nothing of what is asked is known here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "serve/http.h"
#include "serve/limits.h"

namespace mlxlm::serve {

// Told of every answer at its end; called on I/O threads.
struct AccessRecord {
  std::string id, peer, client, method, path; // without the query
  int status = 0; // 0: the client left before there was one
  std::string_view
      outcome; // "ok", "client gone", "slow reader", "stopped", "refused"
  std::size_t bytes = 0; // of the answer, framing included
  double seconds = 0;
  std::string note;
};
using AccessLog = std::function<void(const AccessRecord&)>;

struct ServerOptions {
  std::string host = "127.0.0.1"; // an address, a name, or unix:PATH
  int port = 8080; // 0: any free one
  Limits limits;
  int io_threads = 2, workers = 2;
  std::string certificate, private_key; // PEM files; empty: no TLS
  AccessLog access_log;
};

class Server {
 public:
  // Listens at once; throws Error(io) when it cannot. `handler` must outlive
  // it.
  Server(const ServerOptions& options, Handler& handler);
  // Drops what is still open.
  ~Server();

  int port() const; // 0 for a Unix socket
  std::string address() const; // "http://127.0.0.1:8080"
  std::size_t connections() const;

  // No new connections and requests; waits until the running answers have
  // ended, for the limits' drain time at most, then ends them with an error.
  // True: none had to be ended. `cut_short` is asked now and then.
  bool drain(const std::function<bool()>& cut_short = {});

 private:
  class State;
  std::shared_ptr<State> state_;
};

} // namespace mlxlm::serve

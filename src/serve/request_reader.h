// Bytes of a connection to requests: a parser without sockets.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "serve/http.h"
#include "serve/limits.h"

namespace mlxlm::serve {

class RequestReader {
 public:
  enum class State {
    untouched, // no byte has come
    headers,
    body,
    done, // take() gives it
    refused, // status() and message() say why; the connection must close
  };

  explicit RequestReader(const Limits& limits);
  ~RequestReader();

  // Reads on; returns how many bytes of `input` were used. What is left belongs
  // to the next request, or is too little yet: offer it again with more.
  std::size_t feed(std::string_view input);
  State state() const {
    return state_;
  }
  // The client waits for "100 Continue" before it sends its body. Once true.
  bool expects_continue();
  // Bytes that the body is said to have; 0: unknown.
  std::size_t content_length() const;

  HttpRequest take();
  int status() const {
    return status_;
  }
  const std::string& message() const {
    return message_;
  }

 private:
  class Parser;
  void refuse(int status, std::string message);
  void refuse_headers();
  void check_headers();

  const Limits& limits_;
  std::unique_ptr<Parser> parser_;
  State state_ = State::untouched;
  bool expects_continue_ = false;
  bool line_done_ = false; // the request line has been seen
  int status_ = 0;
  std::string message_;
};

} // namespace mlxlm::serve

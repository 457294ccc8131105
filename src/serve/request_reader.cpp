#include "serve/request_reader.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <fmt/format.h>

#include "core/strings.h"

namespace mlxlm::serve {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::system::error_code;

std::string lower(boost::beast::string_view text) {
  return lower_ascii({text.data(), text.size()});
}

// A length or a way of coding that somebody on the way may read otherwise: a
// list, one beside another.
bool ambiguous(const http::request<http::string_body>& message) {
  int lengths = 0;
  for (const auto& field : message) {
    std::string_view value(field.value().data(), field.value().size());
    if (field.name() == http::field::content_length &&
        (++lengths > 1 || value.find_first_not_of("0123456789") != value.npos))
      return true;
    if (field.name() == http::field::transfer_encoding &&
        (lower_ascii(value) != "chunked" || message.version() != 11))
      return true;
  }
  return false;
}

// A header that goes on in the next line: a relic that proxies and servers read
// in ways of their own.
bool folded(std::string_view headers) {
  headers = headers.substr(0, headers.find("\r\n\r\n"));
  return headers.find("\r\n ") != headers.npos ||
      headers.find("\r\n\t") != headers.npos;
}

} // namespace

class RequestReader::Parser : public http::request_parser<http::string_body> {};

RequestReader::RequestReader(const Limits& limits)
    : limits_(limits), parser_(std::make_unique<Parser>()) {
  parser_->header_limit(static_cast<std::uint32_t>(limits.header_bytes));
  parser_->body_limit(static_cast<std::uint64_t>(limits.body_bytes));
  parser_->eager(true);
}

RequestReader::~RequestReader() = default;

void RequestReader::refuse(int status, std::string message) {
  state_ = State::refused;
  status_ = status;
  message_ = std::move(message);
}

void RequestReader::refuse_headers() {
  if (!line_done_) return refuse(414, "The request line is too long.");
  refuse(
      431,
      fmt::format(
          "The headers take more than {} bytes (header_bytes).",
          limits_.header_bytes));
}

std::size_t RequestReader::feed(std::string_view input) {
  std::size_t used = 0;
  while (used < input.size() && state_ != State::done &&
         state_ != State::refused) {
    if (state_ == State::untouched) state_ = State::headers;
    bool before = parser_->is_header_done();
    ErrorCode error;
    auto rest = input.substr(used);
    auto longest = static_cast<std::size_t>(limits_.header_bytes);
    line_done_ = line_done_ || rest.substr(0, longest).find('\n') != rest.npos;
    if (!before && folded(rest)) {
      refuse(400, "A header goes on in the next line.");
      break;
    }
    auto n = parser_->put(boost::asio::buffer(rest.data(), rest.size()), error);
    used += n;
    if (error && error != http::error::need_more) {
      if (error == http::error::header_limit) {
        refuse_headers();
      } else if (error == http::error::body_limit) {
        refuse(
            413,
            fmt::format(
                "The body takes more than {} bytes (body_bytes).",
                limits_.body_bytes));
      } else {
        refuse(400, "This is not HTTP: " + error.message() + ".");
      }
      break;
    }
    if (parser_->is_header_done() && !before) {
      state_ = State::body;
      check_headers();
      if (state_ == State::refused) break;
    }
    if (parser_->is_done()) state_ = State::done;
    if (n == 0 && error == http::error::need_more) break;
  }
  if (state_ == State::headers &&
      input.size() - used > static_cast<std::size_t>(limits_.header_bytes))
    refuse_headers();
  return used;
}

void RequestReader::check_headers() {
  const auto& message = parser_->get();
  std::int64_t fields = 0;
  for (const auto& field : message) {
    ++fields;
    auto value = field.value();
    for (char c : value)
      if (static_cast<unsigned char>(c) < 0x20 && c != '\t')
        return refuse(400, "A header has a control character.");
  }
  if (fields > limits_.header_fields)
    return refuse(
        431,
        fmt::format(
            "There are more than {} headers (header_fields).",
            limits_.header_fields));
  if (message.version() != 10 && message.version() != 11)
    return refuse(400, "Expected HTTP/1.1.");
  if (ambiguous(message))
    return refuse(400, "The length of the body can be read in several ways.");
  auto length = parser_->content_length();
  if (length && *length > static_cast<std::uint64_t>(limits_.body_bytes))
    return refuse(
        413,
        fmt::format(
            "The body takes more than {} bytes (body_bytes).",
            limits_.body_bytes));
  auto encoding = lower(message[http::field::content_encoding]);
  if (!encoding.empty() && encoding != "identity")
    return refuse(415, "The body must not be compressed.");
  auto method = message.method_string();
  bool bodyless = method == "GET" || method == "HEAD" || method == "OPTIONS" ||
      method == "DELETE";
  if (!bodyless && !length && !parser_->chunked()) {
    bool has_length =
        message.find(http::field::content_length) != message.end();
    if (!has_length) return refuse(411, "A length of the body is needed.");
  }
  auto expect = lower(message[http::field::expect]);
  if (expect == "100-continue")
    expects_continue_ = true;
  else if (!expect.empty())
    return refuse(400, "The header Expect is not understood.");
}

bool RequestReader::expects_continue() {
  return std::exchange(expects_continue_, false);
}

std::size_t RequestReader::content_length() const {
  auto length = parser_->content_length();
  return length ? static_cast<std::size_t>(*length) : 0;
}

HttpRequest RequestReader::take() {
  auto& message = parser_->get();
  HttpRequest out;
  auto text = [](boost::beast::string_view view) {
    return std::string(view.data(), view.size());
  };
  out.method = text(message.method_string());
  out.target = text(message.target());
  for (const auto& field : message)
    out.headers.emplace_back(lower(field.name_string()), text(field.value()));
  out.keep_alive = message.keep_alive();
  out.http10 = message.version() == 10;
  out.body = std::move(message.body());
  return out;
}

} // namespace mlxlm::serve

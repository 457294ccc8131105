#include "serve/http.h"

#include <fmt/format.h>

namespace mlxlm::serve {
namespace {

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool decode(std::string_view path, std::string& out) {
  for (std::size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == '%') {
      if (i + 2 >= path.size() || hex(path[i + 1]) < 0 || hex(path[i + 2]) < 0)
        return false;
      c = static_cast<char>(hex(path[i + 1]) * 16 + hex(path[i + 2]));
      i += 2;
    }
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '\\') return false;
    if (c == '/' && !out.empty() && out.back() == '/') continue;
    out += c;
  }
  return true;
}

} // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 411:
      return "Length Required";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

std::optional<std::string> normalize_path(std::string_view target) {
  auto path = target.substr(0, target.find('?'));
  if (path.empty() || path[0] != '/') return std::nullopt;
  std::string out;
  if (!decode(path, out)) return std::nullopt;
  for (std::size_t at = 0; (at = out.find("/.", at)) != out.npos; ++at) {
    auto name = std::string_view(out).substr(at + 1);
    name = name.substr(0, name.find('/'));
    if (name == "." || name == "..") return std::nullopt;
  }
  if (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

std::string_view query_of(std::string_view target) {
  auto mark = target.find('?');
  return mark == target.npos ? std::string_view() : target.substr(mark + 1);
}

std::string format_head(
    const Head& head,
    std::optional<std::size_t> length,
    bool keep_alive,
    bool http10) {
  auto out = fmt::format(
      "HTTP/1.1 {} {}\r\n", head.status, reason_phrase(head.status));
  for (const auto& [name, value] : head.headers)
    out += fmt::format("{}: {}\r\n", name, value);
  if (length && head.status != 204 && head.status != 304)
    out += fmt::format("content-length: {}\r\n", *length);
  else if (!length && !http10)
    out += "transfer-encoding: chunked\r\n";
  if (!keep_alive)
    out += "connection: close\r\n";
  else if (http10)
    out += "connection: keep-alive\r\n";
  return out + "\r\n";
}

std::string chunk(std::string_view body) {
  if (body.empty()) return {};
  return fmt::format("{:x}\r\n{}\r\n", body.size(), body);
}

std::string header_value(std::string_view text, std::size_t limit) {
  std::string out;
  for (char c : text.substr(0, limit))
    out += c >= 0x20 && c < 0x7f ? c : '?';
  return out;
}

Head stream_head(const std::string& media_type, Headers headers) {
  headers.emplace_back("content-type", media_type);
  headers.emplace_back("cache-control", "no-cache");
  headers.emplace_back("x-accel-buffering", "no");
  return {200, std::move(headers)};
}

} // namespace mlxlm::serve

#include "serve/errors.h"

#include <fmt/format.h>

#include "core/strings.h"

namespace mlxlm::serve {
namespace {

std::string_view anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::request:
    case ErrorKind::text:
      return 400;
    case ErrorKind::resource:
      return 503;
    default:
      return 500;
  }
}

} // namespace

Style style_of(std::string_view path) {
  if (starts_with(path, "/api/")) return Style::ollama;
  return starts_with(path, "/v1/messages") ? Style::anthropic : Style::openai;
}

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 500:
      return "server_error";
    case 503:
      return "unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return "invalid_request_error";
  }
}

Json error_body(const ApiError& error, Style style) {
  auto message = replace_invalid_utf8(error.message);
  if (style == Style::ollama) return {{"error", message}};
  if (style == Style::anthropic)
    return {
        {"type", "error"},
        {"error",
         {{"type", anthropic_type(error.status)}, {"message", message}}}};
  auto null_or = [](const std::string& text) {
    return text.empty() ? Json() : Json(text);
  };
  return {
      {"error",
       {{"message", message},
        {"type", error_type(error.status)},
        {"param", null_or(replace_invalid_utf8(error.param))},
        {"code", null_or(error.code)}}}};
}

Response error_response(const ApiError& error, Style style) {
  Response response{.status = error.status};
  response.headers.emplace_back("content-type", "application/json");
  if (error.retry_after > 0)
    response.headers.emplace_back(
        "retry-after", std::to_string(error.retry_after));
  if (error.status == 401)
    response.headers.emplace_back("www-authenticate", "Bearer");
  response.body = error_body(error, style).dump() + "\n";
  return response;
}

std::string error_event(const ApiError& error, Style style) {
  return error_event(error_body(error, style), style);
}

std::string error_event(const Json& body, Style style) {
  if (style == Style::anthropic)
    return fmt::format("event: error\ndata: {}\n\n", body.dump());
  return fmt::format("data: {}\n\ndata: [DONE]\n\n", body.dump());
}

ApiError from_error(const Error& error) {
  ApiError out{.status = status_of(error.kind())};
  out.message = error.what();
  if (out.status == 500) out.message = "The server failed; its log says why.";
  if (out.status == 503) out.retry_after = 5;
  // "messages[0]: expected ..."
  auto colon = out.message.find(": ");
  if (out.status == 400 && colon != std::string::npos &&
      out.message.find(' ') > colon)
    out.param = out.message.substr(0, colon);
  return out;
}

} // namespace mlxlm::serve

// What went wrong with a request, in the spelling of whoever asked.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "core/json.h"
#include "serve/http.h"

namespace mlxlm::serve {

// Thrown while a request is read and handled.
struct ApiError {
  int status = 400;
  std::string message; // one sentence
  std::string param = {}; // the field, "messages[0].role"
  std::string code = {}; // "model_not_found"
  int retry_after = 0; // seconds; 0: not said
};

// Which API's clients read the error.
enum class Style { openai, anthropic, ollama };
Style style_of(std::string_view path);

// "invalid_request_error" ...
std::string_view error_type(int status);
Json error_body(const ApiError& error, Style style);
Response error_response(const ApiError& error, Style style);

// An error, or the body of one, as the last event of a stream.
std::string error_event(const ApiError& error, Style style);
std::string error_event(const Json& body, Style style);

// Errors of the library as the client sees them. `where: what` names the field.
ApiError from_error(const Error& error);

} // namespace mlxlm::serve

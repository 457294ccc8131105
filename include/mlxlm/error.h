// The one exception root of the library. A message is one line:
//   where: expected ..., found ...; hint
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace mlxlm {

// What kind of thing was wrong. Edges (CLI, HTTP, C ABI) translate it once.
enum class ErrorKind {
  config, // config.json, tokenizer.json, generation_config.json ...
  weights, // safetensors, GGUF, tensor names and shapes
  text, // tokenizer, chat template, encoding
  request, // something the caller asked for
  resource, // memory, context length, queue
  io, // files, network
  internal, // a broken invariant: our own bug
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message)
      : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept {
    return kind_;
  }

 private:
  ErrorKind kind_;
};

// "config", "weights", ...
std::string_view to_string(ErrorKind kind);

} // namespace mlxlm

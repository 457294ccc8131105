// The C interface of the Rust library for C++: views in, strings and errors
// out.
#pragma once

#include <mlxlm_rust.h>

#include <string>
#include <string_view>

#include "core/check.h"

namespace mlxlm::text {

// A result buffer, freed with its scope.
class RustBuffer {
 public:
  RustBuffer() = default;
  ~RustBuffer() {
    mlxlm_buffer_free(buffer_);
  }
  RustBuffer(const RustBuffer&) = delete;
  RustBuffer& operator=(const RustBuffer&) = delete;

  mlxlm_buffer* out() {
    return &buffer_;
  }
  std::string_view view() const {
    if (buffer_.size == 0) {
      return {};
    }
    return {reinterpret_cast<const char*>(buffer_.data), buffer_.size};
  }
  std::string str() const {
    return std::string(view());
  }

 private:
  mlxlm_buffer buffer_{nullptr, 0, 0};
};

inline mlxlm_slice slice(std::string_view text) {
  return {text.data(), text.size()};
}

// Throws Error(text) "where: what Rust said" unless `ok`.
inline void check_rust(
    int ok,
    std::string_view where,
    const RustBuffer& error) {
  if (!ok) {
    fail(ErrorKind::text, where, "{}", error.view());
  }
}

} // namespace mlxlm::text

// What the fuzzers share: the input as bytes or text, and "an Error is a fine
// answer". Anything else that leaves the function is a finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "mlxlm/error.h"

namespace mlxlm::fuzz {

inline std::span<const std::byte> bytes(const std::uint8_t* data, size_t size) {
  return std::as_bytes(std::span(data, size));
}

inline std::string_view text(const std::uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `action`; errors must carry a message.
void refused_or_done(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    if (*error.what() == '\0') std::abort();
  }
}

// A promise of the code under test: a broken one is a finding.
inline void hold(bool promise) {
  if (!promise) std::abort();
}

// Every byte is read, so that the sanitizer sees a span that lies.
inline unsigned touch(std::span<const std::byte> all) {
  unsigned sum = 0;
  for (auto byte : all)
    sum += std::to_integer<unsigned>(byte);
  return sum;
}

} // namespace mlxlm::fuzz

// The JSON header of a safetensors file, read without building a document:
// exact integers, linear time, and no more memory than the tensors themselves.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/safetensors.h"

namespace mlxlm {

struct SafetensorsHeader {
  using Range = std::pair<std::uint64_t, std::uint64_t>;

  SafetensorsContent content; // without bytes
  std::vector<Range> offsets; // of each tensor in the data
};

// Throws Error(weights); `where` names the file. Sizes are not compared.
SafetensorsHeader read_safetensors_header(
    std::string_view text,
    std::string_view where,
    const SafetensorsLimits& limits);

} // namespace mlxlm

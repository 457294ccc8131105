// What part of a sequence is when it lies on a disk: rows of some layers as
// numbers or as packed pages, recurrent states, and the tokens they come from,
// as bytes.
#pragma once

#include <mlx/array.h>

#include <cstddef>
#include <span>
#include <vector>

#include "cache/layout.h"
#include "cache/memory.h"

namespace mlxlm {

struct PrefixPart {
  struct Rows {
    int layer = 0, first = 0; // position of the first row
    CacheRows rows;
  };
  struct Page { // SequenceMemory::packed_page
    int layer = 0, number = 0;
    std::vector<std::byte> bytes;
  };
  struct States {
    int layer = 0;
    std::vector<mx::array> states;
  };
  int first = 0; // position of the first token
  std::vector<int> ids;
  std::vector<Rows> rows;
  std::vector<Page> pages;
  std::vector<States> states;
};

// Floats take the width of `type`, which must be what memory keeps them in.
std::vector<std::byte> encode(const PrefixPart& part, mx::Dtype type);
// Throws Error(io) unless everything fits the layout: layers, widths, counts.
PrefixPart decode(
    std::span<const std::byte> bytes,
    mx::Dtype type,
    const cache::Layout& layout);

} // namespace mlxlm

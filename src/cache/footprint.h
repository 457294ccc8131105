// What sequences need of memory, from what a model remembers alone: for
// admission, and for telling it before a model is loaded.
#pragma once

#include <cstddef>
#include <vector>

#include "cache/memory.h"

namespace mlxlm {

struct FootprintOptions {
  mx::Dtype dtype = mx::float16; // of stored keys and values
  int page_tokens = MemoryOptions{}.page_tokens;
  int step_tokens = 512; // most that one pass adds to a sequence
  KvStorage storage = {}; // as in MemoryOptions
  int max_tokens = 0, keep_tokens = MemoryOptions{}.keep_tokens;
};

class Footprint {
 public:
  Footprint(
      const std::vector<CacheSpec>& specs,
      const FootprintOptions& options);

  // Of the layers that remember everything.
  std::size_t bytes_per_token() const;
  // The most that a sequence of `tokens` takes on its way there: whole pages,
  // windows no longer than they get, states and their checkpoints.
  std::size_t bytes_for(int tokens) const;
  // The longest sequence, up to `most`, that `bytes` hold.
  int tokens_within(std::size_t bytes, int most) const;

 private:
  struct Pages {
    std::size_t bytes; // of a page
    int window; // 0: everything
    int keep;
    std::size_t packed = 0; // bytes of a packed page
  };
  std::size_t at_most(const Pages& group, std::size_t pages) const;

  FootprintOptions options_;
  std::vector<Pages> groups_;
  std::size_t state_bytes_ = 0; // of one set of states
};

} // namespace mlxlm

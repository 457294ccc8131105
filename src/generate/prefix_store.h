// What sequences that have ended leave for others that begin alike: their
// tokens and, by shared pages, what the model remembers of them. The least
// recently used go first, when there are too many or pages are needed.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"

namespace mlxlm {

class PrefixStore {
 public:
  struct Found {
    std::unique_ptr<SequenceMemory> memory;
    int length; // tokens of the prompt that it remembers, at least one
  };

  explicit PrefixStore(std::size_t most = 64) : most_(most) {}

  // A sequence of its own that remembers as much of the prompt as one of the
  // store's does, but the last token.
  std::optional<Found> find(const std::vector<int>& prompt);
  // tokens: as many as `memory` remembers.
  void insert(std::vector<int> tokens, std::unique_ptr<SequenceMemory> memory);
  // Lets go of the least recently used; false: there is none.
  bool evict();
  std::size_t size() const {
    return entries_.size();
  }
  void clear() {
    entries_.clear();
  }

 private:
  struct Entry {
    std::vector<int> tokens;
    std::unique_ptr<SequenceMemory> memory;
  };
  std::size_t most_;
  std::list<Entry> entries_; // most recently used first
};

} // namespace mlxlm

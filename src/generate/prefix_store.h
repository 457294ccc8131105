// What sequences leave for others that begin alike: a tree of their pages
// (prefix_tree.h), within the memory of those that run, and under it a tier
// that may know more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/memory.h"
#include "generate/prefix_tree.h"

namespace mlxlm {

struct PrefixFound {
  std::unique_ptr<SequenceMemory> memory;
  int length; // tokens of the prompt that it remembers, at least one
  PrefixPin pin = nullptr; // for as long as the sequence runs
};

// Where prefixes are kept besides: told of all, asked for longer ones.
class PrefixTier {
 public:
  // sequence.begin(tokens), for which what is only kept gives way.
  using Begin = std::function<void(SequenceMemory& sequence, int tokens)>;

  virtual ~PrefixTier() = default;
  // Never throws. tokens: as many as `memory` remembers, which is left as it
  // is.
  virtual void leave(
      const std::vector<int>& tokens,
      std::uint64_t key,
      SequenceMemory& memory) = 0;
  // Of more than `least` tokens, but not the prompt's last.
  virtual std::optional<PrefixFound> find(
      const std::vector<int>& prompt,
      std::uint64_t key,
      int least,
      const Begin& begin) = 0;
};

class PrefixStore {
 public:
  using Found = PrefixFound;

  explicit PrefixStore(std::shared_ptr<Memory> memory);

  // A sequence of its own that remembers as much of the prompt as is known, but
  // the last token. `key`: of all but the tokens that decides what is
  // remembered: an adapter, an image.
  std::optional<Found> find(
      const std::vector<int>& prompt,
      std::uint64_t key = 0);
  // Keeps what the sequence remembers of its first `tokens`. Where it has read
  // what somebody else had read it goes on with the other's pages.
  PrefixPin insert(
      std::span<const int> tokens,
      SequenceMemory& memory,
      std::uint64_t key = 0);
  // Tells the tier, of the first `tokens`.
  void leave(
      std::span<const int> tokens,
      SequenceMemory& memory,
      std::uint64_t key = 0);
  void set_tier(std::shared_ptr<PrefixTier> tier) {
    tier_ = std::move(tier);
  }
  // memory.begin(tokens), for which what is only kept gives way.
  void begin(SequenceMemory& memory, int tokens);
  // Gives way to states and pages beyond the memory's limit.
  void fit();
  void clear() {
    tree_.clear();
  }
  const PrefixTree& tree() const {
    return tree_;
  }
  const PartShape& shape() const {
    return shape_;
  }

 private:
  std::shared_ptr<Memory> memory_;
  std::shared_ptr<PrefixTier> tier_; // may be null
  PartShape shape_;
  PrefixTree tree_;
};

} // namespace mlxlm

// What sequences that have ended leave for others that begin alike: their
// tokens and, by shared pages, what the model remembers of them. Beginnings are
// found by a hash of all they hold, block after block, and compared token by
// token. The least recently used go first, when there are too many or pages are
// needed.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "cache/memory.h"

namespace mlxlm {

struct PrefixFound {
  std::unique_ptr<SequenceMemory> memory;
  int length; // tokens of the prompt that it remembers, at least one
};

// Where prefixes are kept besides: told of all, asked for longer ones.
class PrefixTier {
 public:
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
      int least) = 0;
};

class PrefixStore {
 public:
  using Found = PrefixFound;

  explicit PrefixStore(std::size_t most = 512) : most_(most) {}

  // A sequence of its own that remembers as much of the prompt as one of the
  // store's does, but the last token. `key`: of all but the tokens that decides
  // what is remembered: an adapter, an image.
  std::optional<Found> find(
      const std::vector<int>& prompt,
      std::uint64_t key = 0);
  // tokens: as many as `memory` remembers.
  void insert(
      std::vector<int> tokens,
      std::unique_ptr<SequenceMemory> memory,
      std::uint64_t key = 0);
  // Tells the tier only, for a sequence that goes elsewhere.
  void leave(
      const std::vector<int>& tokens,
      std::uint64_t key,
      SequenceMemory& memory);
  void set_tier(std::shared_ptr<PrefixTier> tier) {
    tier_ = std::move(tier);
  }
  // Lets go of the least recently used; false: there is none.
  bool evict();
  std::size_t size() const {
    return entries_.size();
  }
  void clear();

 private:
  struct Entry {
    std::uint64_t key;
    std::vector<int> tokens;
    std::unique_ptr<SequenceMemory> memory;
    std::vector<std::uint64_t> hashes; // of its beginnings, whole blocks
  };
  using Place = std::list<Entry>::iterator;
  struct Shared {
    Place place;
    int length; // tokens in common with a prompt
  };

  // Those with most in common with the prompt, at most `count`, best first.
  std::vector<Shared> alike(
      const std::vector<int>& prompt,
      std::uint64_t key,
      std::size_t count) const;
  std::optional<Place> find_same(
      const std::vector<int>& tokens,
      std::uint64_t key,
      std::uint64_t hash) const;
  void remove(Place place);

  std::shared_ptr<PrefixTier> tier_; // may be null
  std::size_t most_;
  std::list<Entry> entries_; // most recently used first
  std::unordered_map<std::uint64_t, std::vector<Place>> by_hash_;
};

} // namespace mlxlm

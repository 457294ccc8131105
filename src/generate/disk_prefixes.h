// Prefixes that outlive the process. A sequence is kept in blocks of a page's
// tokens, each found by a hash of every token up to its end, so that sequences
// share the blocks of what they have in common. What has no place in a block
// (rows that a window shows, recurrent states, the tokens behind the last
// block) is kept for the places where sequences ended, in an entry of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/layout.h"
#include "disk/store.h"
#include "generate/prefix_blob.h"
#include "generate/prefix_store.h"

namespace mlxlm {

class DiskPrefixes final : public PrefixTier {
 public:
  // options.owner must name all that keys and values depend on. Throws
  // Error(io) for a folder that cannot be made.
  DiskPrefixes(
      disk::StoreOptions options,
      const std::vector<CacheSpec>& specs,
      const MemoryOptions& memory_options,
      std::shared_ptr<Memory> memory);

  void leave(
      const std::vector<int>& tokens,
      std::uint64_t key,
      SequenceMemory& memory) override;
  std::optional<PrefixFound> find(
      const std::vector<int>& prompt,
      std::uint64_t key,
      int least,
      const Begin& begin) override;

 private:
  using Keys = std::vector<disk::Key>;
  struct Place { // up to where a sequence can be made again
    int blocks = 0;
    std::optional<PrefixPart> end; // what is there besides the blocks
    int length = 0;
  };

  Keys chain(const std::vector<int>& tokens, std::uint64_t key, int blocks)
      const;
  void add_rows(
      PrefixPart& part,
      SequenceMemory& memory,
      int layer,
      int first,
      int last) const;
  PrefixPart block(
      const std::vector<int>& tokens,
      SequenceMemory& memory,
      int number) const;
  PrefixPart end_of(const std::vector<int>& tokens, SequenceMemory& memory)
      const;
  std::optional<PrefixPart> read(const disk::Key& key);
  std::optional<Place> place(
      const Keys& keys,
      int blocks,
      const std::vector<int>& prompt);
  // Null: it is not all there, or there is no room; `usable` blocks are.
  std::unique_ptr<SequenceMemory> restore(
      const Keys& keys,
      const Place& place,
      const std::vector<int>& prompt,
      const Begin& begin,
      int& usable);
  void apply(const PrefixPart& part, SequenceMemory& memory, int length);
  void leave_all(
      const std::vector<int>& tokens,
      std::uint64_t key,
      SequenceMemory& memory);
  void leave_ends(
      const std::vector<int>& tokens,
      SequenceMemory& memory,
      const Keys& keys);
  bool windowed(const cache::Layer& layer) const;

  cache::Layout layout_;
  mx::Dtype type_;
  int block_tokens_;
  bool plain_; // no windows and no states: any length will do
  std::shared_ptr<Memory> memory_;
  disk::Key root_;
  disk::Store store_;
};

} // namespace mlxlm

// What a sequence remembers, in parts that others can begin with: pages, and
// recurrent states at a place. For whoever keeps them once the sequence is
// gone. Nothing here needs MLX.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace mlxlm {

class Memory;
class SequenceMemory;

// A page of one group, or all states behind a token. Lives as long as somebody
// holds it, and counts in its memory's bytes.
struct KeptPart {
  explicit KeptPart(std::size_t bytes) : bytes(bytes) {}
  KeptPart(const KeptPart&) = delete;
  KeptPart& operator=(const KeptPart&) = delete;
  virtual ~KeptPart() = default;
  const std::size_t bytes;
};
using KeptPtr = std::shared_ptr<const KeptPart>;

// The pages of one number, a group after the other; null where a window has
// passed.
using PageColumn = std::vector<KeptPtr>;

// What the sequences of a memory consist of.
struct PartShape {
  struct Group {
    int window = 0; // 0: all that was read is needed
    int keep = 0; // of a window's tokens, the first that are seen for ever
  };
  int page_tokens = 0;
  std::vector<Group> groups;
  bool states = false; // one can only begin where states were kept
  std::size_t max_bytes = 0; // of all sequences and parts; 0: unlimited
};

PartShape part_shape(Memory& memory);
// The pages of the first `tokens`.
std::vector<PageColumn> kept_pages(SequenceMemory& sequence, int tokens);
// Where states are kept, ascending, and they.
std::vector<std::pair<int, KeptPtr>> kept_states(SequenceMemory& sequence);
// Lists these whole pages, which hold the same rows, instead of the sequence's
// own, as far as both are there and stored alike.
void share_pages(SequenceMemory& sequence, std::span<const PageColumn> pages);
// One that remembers the first `length` tokens of these pages; the last page
// may hold more. state: of this length; null where there are none.
std::unique_ptr<SequenceMemory> sequence_from(
    Memory& memory,
    const std::vector<PageColumn>& pages,
    int length,
    const KeptPtr& state);

} // namespace mlxlm

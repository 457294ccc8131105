// What every layer of one forward pass shares: the tokens of all its sequences
// laid end to end, [1, N, ...], and where each sequence's segment lies. Models
// never look inside; caches and recurrent blocks do.
#pragma once

#include <mlx/array.h>

#include <vector>

namespace mlxlm {

namespace mx = mlx::core;

class SequenceMemory;

struct Segment {
  SequenceMemory* sequence; // null in a stateless pass
  int first; // index of its first token in the pass
  int count; // its tokens in the pass, >= 1
  int offset; // tokens the sequence already remembers
  // Tokens it will have once its prompt is read, when that is more than this
  // pass brings it to: positions that depend on the length (longrope) then do
  // not depend on how the prompt is cut.
  int goal = 0;
};

struct Step {
  int tokens = 0; // N
  std::vector<Segment> segments; // in order, covering [0, N)
  std::vector<int> position_list; // [N]: offset + index within the segment
  mx::array positions; // [N] int32, the same on the device

  explicit Step(std::vector<Segment> segments);
  // Index of each segment's last token: the rows whose logits are wanted.
  std::vector<int> last_tokens() const;
};

} // namespace mlxlm

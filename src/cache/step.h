// What every layer of one forward pass shares: the tokens of all its sequences
// laid end to end, [1, N, ...], and where each sequence's segment lies. Models
// never look inside; caches and recurrent blocks do.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <vector>

namespace mlxlm {

namespace mx = mlx::core;

class SequenceMemory;
class PassTables;

struct Segment {
  SequenceMemory* sequence; // null in a stateless pass
  int first; // index of its first token in the pass
  int count; // its tokens in the pass, >= 1
  int offset; // tokens the sequence already remembers
  // Tokens it will have once its prompt is read, when that is more than this
  // pass brings it to: positions that depend on the length (longrope) then do
  // not depend on how the prompt is cut.
  int goal = 0;
  // Each of its tokens sees of a window with kept first tokens what it would in
  // a pass of its own, however a text is cut. Not: as in mlx-lm's rotating
  // cache, where a pass' later tokens see less of the kept ones.
  bool apart = false;
  // One token that only looks at what the sequence has, at the place behind it:
  // nothing is stored, and nothing has begun.
  bool looks = false;
};

class Step {
 public:
  explicit Step(std::vector<Segment> segments);

  int tokens = 0; // N
  mx::array positions; // [N] int32: offset + index within the segment

  // Index of each segment's last token: the rows whose logits are wanted.
  std::vector<int> last_tokens() const;

  // The rest is for host code that builds the graph by what it finds here. Such
  // a graph belongs to this pass alone: a decode pass is recorded and done
  // again for other positions only where nobody asked.
  const std::vector<Segment>& segments() const { // in order, covering [0, N)
    read_on_host_ = true;
    return segments_;
  }
  const std::vector<int>& position_list() const { // positions on the host
    read_on_host_ = true;
    return position_list_;
  }
  bool read_on_host() const {
    return read_on_host_;
  }

  // The segments for memory's page tables, which a recorded pass replaces.
  const std::vector<Segment>& paged_segments() const {
    return segments_;
  }
  const std::vector<int>& recorded_positions() const {
    return position_list_;
  }
  // What memory made of the segments, once a pass.
  std::shared_ptr<PassTables>& tables() const {
    return tables_;
  }

 private:
  std::vector<Segment> segments_;
  std::vector<int> position_list_;
  mutable bool read_on_host_ = false;
  mutable std::shared_ptr<PassTables> tables_;
};

} // namespace mlxlm

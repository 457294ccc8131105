// A block is what stands between two norms: attention, an MLP, a state-space
// mixer. A layer is a list of residual parts, h += post(op(pre(h))); where the
// norms stand and which parts share an input is data.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"
#include "cache/step.h"
#include "nn/norm.h"

namespace mlxlm {

class Block {
 public:
  virtual ~Block() = default;
  // x [1, N, hidden] -> the same shape. `cache` is this block's own view of
  // memory, null when it remembers nothing. A block that remembers nothing
  // treats rows independently and may be given fewer rows than the step has
  // tokens.
  virtual mx::array operator()(
      const mx::array& x,
      const Step& step,
      LayerCache* cache) const = 0;
  virtual CacheSpec cache() const {
    return {};
  }
  // A block that remembers several things names them here and is run with a
  // view of each; its operator() is then never called.
  virtual std::vector<CacheSpec> caches() const;
  virtual mx::array run(
      const mx::array& x,
      const Step& step,
      const std::vector<LayerCache*>& caches) const;
};
using BlockPtr = std::unique_ptr<Block>;
// A block that is run again, with memory of its own and the same weights.
BlockPtr again(std::shared_ptr<const Block> block);

struct Sublayer {
  Norm pre = {};
  BlockPtr op;
  Norm post = {};
  float scale = 1; // of the branch before it joins the residual
  // Takes the same input as the part before (parallel). Without a norm of its
  // own, what that one's norm gave.
  bool beside = false;
  // Joins the residual when the layer ends: the parts between do not see it.
  bool late = false;
};

struct Layer {
  std::vector<Sublayer> parts;
  // What the next layer gets instead of h. `side`: what DecoderOptions::side
  // made of the pass' tokens, the same rows as h.
  std::function<
      mx::array(const mx::array& h, const std::optional<mx::array>& side)>
      end = {};
};

template <typename... Parts>
Layer layer(Parts&&... parts) {
  Layer out;
  (out.parts.push_back(std::forward<Parts>(parts)), ...);
  return out;
}

} // namespace mlxlm

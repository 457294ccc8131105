// What linear attentions by the delta rule share: a short convolution over
// queries, keys and values, queries and keys of length one, the recurrence, a
// gated norm of what it read.
#pragma once

#include "nn/block.h"
#include "nn/recurrent.h"

namespace mlxlm {

struct DeltaShape {
  int key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;

  int keys() const {
    return key_heads * key_dim;
  }
  int values() const {
    return value_heads * value_dim;
  }
  int channels() const { // of the convolution
    return 2 * keys() + values();
  }
};

class DeltaMixer : public Block {
 public:
  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override;
  CacheSpec cache() const override;

 protected:
  struct Parts {
    DeltaShape shape;
    ShortConv conv;
    Linear out;
    Param norm; // [value_dim]
    float eps;
    bool sigmoid_gate; // the norm's gate; else silu
  };
  // Of every token, [1, N, ...]: what the convolution takes, how much of the
  // state stays (a head or a channel each, float32), the rate of writing, the
  // norm's gate.
  struct Inputs {
    mx::array qkv, decay, beta, gate;
  };

  explicit DeltaMixer(Parts parts) : p_(std::move(parts)) {}
  virtual Inputs inputs(const mx::array& x) const = 0;

 private:
  // [1, N, Hv, Dv]
  mx::array mixed(const Inputs& in, const Step& step, LayerCache& cache) const;
  mx::array mixed(const Inputs& in, const SegmentBatch& g, LayerCache& cache)
      const;
  mx::array gated(const mx::array& y, const mx::array& gate) const;

  Parts p_;
};

} // namespace mlxlm

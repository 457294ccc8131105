// The regular decoder: embed, layers, norm, head. A family that does not fit
// writes its own Model from the same blocks.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "nn/block.h"
#include "nn/model.h"
#include "weights/scope.h"

namespace mlxlm {

// Of nn/prediction.h.
struct PredictionOptions {
  float eps = 1e-6f; // of its norms
  bool hidden_first = false; // in what the projection gets
  bool own_norm = true; // the last one; else the model's
};

struct DecoderOptions {
  std::string embed = "model.embed_tokens";
  std::string layers = "model.layers";
  std::string head = "lm_head";
  int hidden = 0, vocab = 0, depth = 0;
  Norm norm = {}; // the last one
  Norm embed_norm = {};
  bool tied = false; // the head is the embedding
  Bias head_bias = Bias::none;
  bool unit_columns = false; // of the head: each is divided by its length
  float embed_scale = 1; // of embeddings
  // A learned vector for each of `position_count` positions, added to them.
  std::string positions = {};
  int position_count = 0;
  float logit_scale = 1;
  float softcap = 0; // cap * tanh(logits / cap)
  // The rows of the head are scaled to length one, unless it is quantized,
  // which happens after the scaling.
  bool unit_head = false;
  // What the ends of layers are given beside h, [1, N, ...], from the tokens
  // and the embeddings as the first layer gets them.
  std::function<mx::array(const Input& input, const mx::array& h)> side = {};
  // Of the module below `prediction`, which is built where the tensors are.
  PredictionOptions prediction = {};
};

// The layer `index`, at `s`; that of the prediction has the index `depth`.
using BlockMaker = std::function<Layer(int index, const Scope& s)>;
ModelPtr decoder(
    const Scope& w,
    DecoderOptions options,
    const BlockMaker& block);

// The layers alone, for models with a forward of their own: runs every part,
// fusing each residual sum with the norm that follows.
class Stack {
 public:
  explicit Stack(std::vector<Layer> layers);
  const std::vector<CacheSpec>& caches() const {
    return caches_;
  }
  // Returns last(h) after all parts. `rows`: the rows wanted; once nothing that
  // remembers is left, only they are carried on.
  mx::array operator()(
      mx::array h,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows,
      const Norm& last,
      std::optional<mx::array> side = {}) const;

 private:
  struct Part {
    Sublayer sub;
    int slot, slots; // in caches_, as many as it remembers
    decltype(Layer::end) end; // of the last part of a layer
    bool last; // of its layer
  };
  std::vector<Part> parts_;
  std::vector<CacheSpec> caches_;
  std::size_t after_last_store_ = 0; // parts from here on store nothing
  std::size_t after_last_cache_ = 0; // parts from here on need only `rows`
};

// Rows of x [1, N, ...]; x itself when they are all of it.
mx::array take_rows(const mx::array& x, const std::vector<int>& rows);

} // namespace mlxlm

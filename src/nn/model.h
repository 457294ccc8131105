// What every architecture is to the rest of the program: tokens of many
// sequences in, logits of the rows asked for out.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <vector>

#include "cache/memory.h"
#include "cache/step.h"

namespace mlxlm {

// The tokens of one pass, all sequences end to end.
struct Input {
  mx::array tokens; // [1, N] int32
  std::optional<mx::array> embeddings =
      {}; // [1, N, hidden] instead of a lookup
  // [1, N, hidden], for Model::prediction(): the model's last hidden states at
  // the tokens before these.
  std::optional<mx::array> hidden = {};
};

class Model {
 public:
  virtual ~Model() = default;
  // Logits [rows.size(), vocab] float32 of the given rows (indices into [0, N),
  // ascending; usually step.last_tokens()). Lazy: evaluate it together with
  // nothing else to run the pass. No rows: the hidden state still runs through
  // every layer that remembers something, and the result is [0, vocab].
  virtual mx::array operator()(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const;
  // The same in two steps: last hidden states [1, rows.size(), hidden] as the
  // head gets them, and logits of such. Error(internal) where a model does not
  // show what lies between.
  virtual mx::array hidden(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const;
  virtual mx::array head(const mx::array& hidden) const;
  // The tokens as the first layer gets them, [1, N, hidden].
  virtual mx::array embed(const Input& input) const;
  // What was trained to say the token after the next one (multi-token
  // prediction), where it was loaded; else null. It lives as long as the model
  // and has a memory of its own.
  virtual const Model* prediction() const {
    return nullptr;
  }
  // What the model must remember, one entry a memory layer.
  virtual std::vector<CacheSpec> caches() const = 0;
  virtual int vocab() const = 0;
};
using ModelPtr = std::unique_ptr<Model>;

} // namespace mlxlm

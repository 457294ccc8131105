// Multi-token prediction: a module behind the model that reads what the model
// made of a token together with the token that follows, and says the one after
// that (DeepSeek-V3, arXiv 2412.19437, 2.2). Its own hidden states stand in for
// the model's where it runs again.
//
//   x = proj(token_norm(embedding(next token)) + hidden_norm(hidden));  // ends
//   hidden = norm(layer(x));  logits = head(hidden)       // on end, not summed
//
// Tensors: `token_norm`, `hidden_norm`, `proj`, `block.*` and, where it does
// not share the model's, `norm` and `head`.
#pragma once

#include <functional>

#include "nn/decoder.h"

namespace mlxlm {

// What it shares with the model.
struct PredictionFrame {
  int hidden = 0, vocab = 0;
  Norm norm = {}; // behind the last layer
  std::function<mx::array(const Input& input)> embed; // [1, N, hidden]
  // Logits of hidden states [1, N, hidden]; `own`: the module's head.
  std::function<mx::array(const mx::array& h, const Linear* own)> head;
};

ModelPtr prediction(
    const Scope& s,
    const PredictionOptions& options,
    PredictionFrame frame,
    Layer block);

} // namespace mlxlm

// What Gemma 3n and 4 share: inputs of their own for every layer, from a second
// embedding table, and upper layers that borrow keys and values.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/rewrite.h"
#include "models/common.h"

namespace mlxlm::models {

// The inputs of all layers, [1, N, depth, width]: a look-up of the tokens and a
// projection of their embeddings.
class PerLayerInputs {
 public:
  PerLayerInputs(const Fields& f, const Common& c, const Scope& w);
  mx::array operator()(const Input& input, const mx::array& embedded) const;

 private:
  int depth_, width_, vocab_;
  float hidden_;
  Linear table_, projection_;
  Norm norm_;
  mx::Dtype type_;
};

// What layer `index` adds to the residual for its input:
// norm(projection(act(gate(h)) * input)).
class PerLayerGate {
 public:
  PerLayerGate(const Fields& f, const Common& c, const Scope& s, int index);
  mx::array operator()(const mx::array& h, const mx::array& inputs) const;

 private:
  int index_;
  Activation act_;
  Linear gate_, projection_;
  Norm norm_;
};

int per_layer_width(const Fields& f); // 0: the model has no such inputs

// The layer whose keys and values each layer attends to: -1 for its own, which
// the last `num_kv_shared_layers` have not.
std::vector<int> borrowed_from(
    const Fields& f,
    const std::vector<std::string>& layer_types,
    int shared);
// Published files carry unused keys and values in layers that borrow.
std::vector<Rule> drop_borrowed(const Fields& f, int shared);

} // namespace mlxlm::models

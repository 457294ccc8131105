// What a model asks of a checkpoint, gathered by building it on a loader that
// reads no weights: which matrices there are and how they are stored, and every
// other tensor. Converting starts from this.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "weights/format.h"

namespace mlxlm {

struct Inventory {
  struct Matrix {
    std::string path; // of the module
    std::string format; // WeightFormat::name()
    EncodedMatrix matrix;
    // What the format read, by name below the path: "weight", "scales" ...
    std::map<std::string, RowTensor, std::less<>> stored;
  };
  // In the order the model asks for them.
  std::vector<Matrix> matrices;
  std::vector<RowTensor> tensors; // all others: norms, biases ...
};

} // namespace mlxlm

// How a weight format joins: it recognises a module's tensors and offers them
// as rows of plain codes and parameters. What multiplies them (our packed CPU
// kernels, MLX arrays on a GPU) is made from that form, the same way for all
// formats.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/row_tensor.h"
#include "runtime/kernels/matrix.h"

namespace mlxlm {

// A weight matrix [experts, rows, cols] as a format reads it.
struct EncodedMatrix {
  kernels::MatrixSpec spec;
  int experts = 1;
  int rows = 0; // of one expert
  int cols = 0;
  std::shared_ptr<const kernels::RowSource> source; // experts * rows rows
  std::string label; // "Q4_1", "affine 4 bit, group 64"
  std::string where; // file and tensor, for errors
};

// The tensors below a module's path, and what the model asks of it.
class ModuleTensors {
 public:
  virtual ~ModuleTensors() = default;
  virtual const std::string& path() const = 0;
  // The path it had in the file, before rewriting.
  virtual std::string origin() const = 0;
  virtual bool has(std::string_view name) const = 0;
  // `path.name`, marked as used. Throws Error(weights) when missing.
  virtual RowTensor take(std::string_view name) const = 0;
  // Looks without marking; null when missing.
  virtual const RowTensor* peek(std::string_view name) const = 0;
  virtual int in() const = 0;
};

class WeightFormat {
 public:
  virtual ~WeightFormat() = default;
  virtual std::string_view name() const = 0;
  virtual bool recognises(const ModuleTensors& module) const = 0;
  // All rows of the stored matrix; the loader checks the shape against the
  // model's.
  virtual EncodedMatrix open(const ModuleTensors& module) const = 0;
};
using WeightFormatPtr = std::shared_ptr<const WeightFormat>;

} // namespace mlxlm

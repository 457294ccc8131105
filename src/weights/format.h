// How a weight format joins: it recognises a module's tensors and offers them
// as rows of plain codes and parameters. What multiplies them (our packed CPU
// kernels, MLX arrays on a GPU) is made from that form, the same way for all
// formats.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/rewrite.h"
#include "checkpoint/row_tensor.h"
#include "runtime/kernels/matrix.h"

namespace mlxlm {

// A weight matrix [experts, rows, cols] as a format reads it.
struct EncodedMatrix {
  kernels::MatrixSpec spec;
  bool stacked = false; // [experts, rows, cols], also for one expert
  int experts = 1;
  int rows = 0; // of one expert
  int cols = 0;
  std::shared_ptr<const kernels::RowSource> source; // experts * rows rows
  std::size_t stored_bytes = 0;
  std::string label; // "Q4_1", "affine 4 bit, group 64"
  std::string where; // file and tensor, for errors
  // What stands around the codes, when a format has it. Column j belongs to
  // input order[j] ([experts, cols], or empty); outputs are multiplied by
  // factors ([experts], or empty).
  std::vector<int> order;
  std::vector<float> factors;

  bool framed() const {
    return !order.empty() || !factors.empty();
  }
  // One row's values from the order of its codes to that of the inputs, times
  // the factor of its expert.
  void unframe(int row, std::span<float> values) const;

  // Experts, rows, stored bytes and place from the tensor that holds the codes.
  void set_shape(const RowTensor& weight);
};

// A RowSource over stored tensors with a row each per row: lets go of the
// file's pages as rows are done.
class TensorRows : public kernels::RowSource {
 public:
  explicit TensorRows(std::vector<RowTensor> tensors)
      : tensors_(std::move(tensors)) {}
  void done(int index) const override;

 protected:
  // The stored bytes of row `index` of tensor `which`; valid until the next
  // call for the same `which` on this thread.
  std::span<const std::byte> stored(std::size_t which, int index) const;
  const std::vector<RowTensor>& tensors() const {
    return tensors_;
  }

 private:
  std::vector<RowTensor> tensors_;
  mutable std::atomic<int> dropped_ = 0;
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
  // To our names for its tensors, before any other rules.
  virtual std::vector<Rule> rules() const {
    return {};
  }
  virtual bool recognises(const ModuleTensors& module) const = 0;
  // All rows of the stored matrix; the loader checks the shape against the
  // model's.
  virtual EncodedMatrix open(const ModuleTensors& module) const = 0;
  // Throws Error(config) when the config says how modules are packed that do
  // not exist.
  virtual void check(
      const std::function<bool(std::string_view)>& exists) const {}
};
using WeightFormatPtr = std::shared_ptr<const WeightFormat>;

} // namespace mlxlm

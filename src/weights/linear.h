// Handles on weights. A Linear is a handle like mx::array: copies share one
// kernel, and replacing the kernel (quantized, LoRA, ...) is seen by every
// copy. Storage is the kernel's business, never a model file's.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <string>

#include "runtime/kernels/linear.h"

namespace mlxlm {

namespace mx = mlx::core;

// How one weight matrix [out, in] (or [experts, out, in]) multiplies.
class LinearKernel {
 public:
  virtual ~LinearKernel() = default;
  // [..., in] -> [..., out], bias included.
  virtual mx::array operator()(const mx::array& x) const = 0;
  // Mixture of experts, see kernels::gather_linear.
  virtual mx::array gather(const mx::array& x, const mx::array& ids) const = 0;
  // Rows as values of `type`: ids [...] -> [..., in] (embedding lookup).
  virtual mx::array rows(const mx::array& ids, mx::Dtype type) const = 0;
  // The matrix itself in `type`, without the bias.
  virtual mx::array dense(mx::Dtype type) const = 0;
  virtual std::optional<mx::array> bias() const {
    return std::nullopt;
  }
  // The packed CPU matrix when that is all there is (no LoRA around it), so
  // that blocks may fuse several linears into one primitive; null otherwise.
  virtual kernels::MatrixPtr packed() const {
    return nullptr;
  }
  virtual kernels::Activations activations() const {
    return kernels::Activations::exact;
  }
  virtual mx::Shape shape() const = 0; // [out, in] or [experts, out, in]
  virtual std::size_t bytes() const = 0; // held in memory
  virtual std::string format()
      const = 0; // "Q4_1", "affine 4 bit, group 64", "bf16"
};
using LinearKernelPtr = std::shared_ptr<const LinearKernel>;

class Linear {
 public:
  explicit Linear(LinearKernelPtr kernel)
      : cell_(std::make_shared<Cell>(Cell{std::move(kernel)})) {}
  mx::array operator()(const mx::array& x) const {
    return (*cell_->kernel)(x);
  }
  const LinearKernel& kernel() const {
    return *cell_->kernel;
  }
  const LinearKernelPtr& share() const {
    return cell_->kernel;
  }
  void replace(LinearKernelPtr kernel) {
    cell_->kernel = std::move(kernel);
  }

 private:
  struct Cell {
    LinearKernelPtr kernel;
  };
  std::shared_ptr<Cell> cell_;
};

// A small tensor (norm weight, bias, sink ...), a handle as well.
class Param {
 public:
  explicit Param(mx::array value)
      : cell_(std::make_shared<mx::array>(std::move(value))) {}
  const mx::array& operator*() const {
    return *cell_;
  }
  const mx::array* operator->() const {
    return cell_.get();
  }
  void replace(mx::array value) {
    *cell_ = std::move(value);
  }

 private:
  std::shared_ptr<mx::array> cell_;
};

} // namespace mlxlm

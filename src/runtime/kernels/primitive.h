// A CPU primitive made of an operation: a struct with
//   static constexpr const char* name;
//   // allocates out and calls dispatch() once
//   void eval(const Arrays& in, Arrays& out, mx::Stream) const;
//   Arrays reference(const Arrays& in) const;   // plain MLX; carries the
//   gradient
#pragma once

#include <mlx/device.h>
#include <mlx/primitives.h>
#include <mlx/stream.h>
#include <mlx/transforms.h>

#include <memory>
#include <utility>
#include <vector>

#include "core/check.h"
#include "runtime/kernels/tape.h"
#include "runtime/memory/results.h"

namespace mlxlm::kernels {

namespace mx = mlx::core;
using Arrays = std::vector<mx::array>;

// Whether what is built now runs on the CPU: the condition of every fast path
// here.
inline bool on_cpu() {
  return mx::default_device() == mx::Device::cpu;
}

template <typename Op>
class CpuPrimitive final : public mx::Primitive, public Recordable {
 public:
  CpuPrimitive(mx::Stream stream, Op op)
      : mx::Primitive(stream), op_(std::move(op)) {}

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    op_.eval(inputs, outputs, stream());
  }

  void eval_gpu(const Arrays&, Arrays&) override {
    fail(ErrorKind::internal, Op::name, "expected the CPU, found a GPU");
  }

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays&) override {
    Arrays wanted;
    for (int i : argnums)
      wanted.push_back(primals[i]);
    auto run = [&](const Arrays& some) {
      auto all = primals;
      for (std::size_t i = 0; i < argnums.size(); ++i) {
        all[argnums[i]] = some[i];
      }
      return op_.reference(all);
    };
    return mx::vjp(run, wanted, cotangents).second;
  }

  const char* name() const override {
    return Op::name;
  }

 private:
  Op op_;
};

template <typename Op>
Arrays cpu_arrays(
    Op op,
    const std::vector<mx::Shape>& shapes,
    const std::vector<mx::Dtype>& types,
    const Arrays& inputs) {
  auto stream = mx::default_stream(mx::Device::cpu);
  return mx::array::make_arrays(
      shapes,
      types,
      std::make_shared<CpuPrimitive<Op>>(stream, std::move(op)),
      inputs);
}

template <typename Op>
mx::array cpu_array(
    Op op,
    mx::Shape shape,
    mx::Dtype type,
    const Arrays& inputs) {
  auto stream = mx::default_stream(mx::Device::cpu);
  return mx::array(
      std::move(shape),
      type,
      std::make_shared<CpuPrimitive<Op>>(stream, std::move(op)),
      inputs);
}

} // namespace mlxlm::kernels

#include "nn/fused.h"

#include <mlx/ops.h>

#include "core/check.h"
#include "core/strings.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/linear.h"
#include "runtime/kernels/ops.h"

namespace mlxlm {

namespace {

// Whether all are packed matrices that work on the same kind of activations.
bool fusable(const std::vector<Linear>& layers) {
  for (const auto& l : layers) {
    const auto& k = l.kernel();
    if (!k.packed() || k.activations() != layers[0].kernel().activations())
      return false;
  }
  return true;
}

} // namespace

std::vector<mx::array> linears(
    const mx::array& x,
    const std::vector<Linear>& layers) {
  std::vector<mx::array> out;
  if (!fusable(layers)) {
    for (const auto& l : layers)
      out.push_back(l(x));
    return out;
  }
  std::vector<kernels::MatrixPtr> matrices;
  std::vector<std::optional<mx::array>> biases;
  for (const auto& l : layers) {
    matrices.push_back(l.kernel().packed());
    biases.push_back(l.kernel().bias());
  }
  return kernels::linears(
      x, matrices, biases, layers[0].kernel().activations());
}

Activation activation(
    const Fields& f,
    std::string_view key,
    const char* fallback) {
  auto name = f.opt(key, fallback);
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" ||
      name == "gelu_fast" || name == "gelu_tanh")
    return Activation::gelu_tanh;
  if (name == "gelu") return Activation::gelu_erf;
  if (name == "relu2") return Activation::relu2;
  if (name == "relu") return Activation::relu;
  fail(
      ErrorKind::config,
      f.where(key),
      "expected silu, gelu, gelu_pytorch_tanh, relu or relu2, found \"{}\"",
      printable(name));
}

mx::array apply(Activation act, const mx::array& x) {
  return kernels::activated(act, x);
}

mx::array gate_up(Activation act, const mx::array& gate, const mx::array& up) {
  return kernels::glu(act, gate, up);
}

mx::array gated(
    Activation act,
    const mx::array& x,
    const Linear& gate,
    const Linear& up) {
  const auto &g = gate.kernel(), &u = up.kernel();
  if (fusable({gate, up}) && !g.bias() && !u.bias())
    return kernels::gated_linear(
        x, g.packed(), u.packed(), act, g.activations());
  auto both = linears(x, {gate, up});
  return gate_up(act, both[0], both[1]);
}

} // namespace mlxlm

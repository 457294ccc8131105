// Several matrices on one input, and a gate with its up matrix.
#include <mlx/ops.h>

#include "core/check.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/linear.h"
#include "runtime/kernels/linear/operands.h"

namespace mlxlm::kernels {
namespace {

// x W^T in plain MLX, the matrix in x's type.
mx::array plain(const mx::array& x, const PackedPtr& w) {
  return mx::matmul(x, mx::transpose(unpack(w, x.dtype())));
}

// What a product's task needs.
struct Plan {
  std::vector<PackedPtr> matrices;
  std::vector<int> bias; // input number of each matrix's bias, or 0
  std::optional<Activation> act; // of a gate, whose up matrix is the second
  bool int8 = false;

  Reads reads() const {
    Reads all;
    for (const auto& m : matrices)
      all.push_back({m->codes(0), m->bytes()});
    return all;
  }

  void run(
      const std::vector<InputView>& inputs,
      const std::vector<void*>& outputs) const {
    const auto& x = inputs[0];
    int cols = matrices[0]->cols();
    int rows = static_cast<int>(x.size / cols);
    std::vector<std::byte> space;
    std::vector<std::vector<std::byte>> bias_space(matrices.size());
    std::vector<Segment> segments(outputs.size());
    for (std::size_t i = 0; i < outputs.size(); i++) {
      auto& s = segments[i];
      s.matrix = matrices[i].get();
      if (act) {
        s.up = matrices[1].get();
        s.act = *act;
      } else if (bias[i] != 0) {
        const auto& b = inputs[bias[i]];
        s.bias = {b.elements(bias_space[i]), operand_type(b.type)};
      }
      s.count = rows;
      s.out = outputs[i];
    }
    multiply(
        {x.elements(space), operand_type(x.type)}, rows, cols, int8, segments);
  }
};

void dispatch_plan(
    const std::shared_ptr<const Plan>& plan,
    const Arrays& in,
    Arrays& out,
    mx::Stream stream) {
  dispatch(
      stream,
      [plan, in = views(in), out = allocate_all(out)] { plan->run(in, out); },
      plan->reads());
}

struct Products {
  static constexpr const char* name = "Linear";
  std::shared_ptr<const Plan> plan;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    dispatch_plan(plan, in, out, stream);
  }

  Arrays reference(const Arrays& in) const {
    Arrays outputs;
    for (std::size_t i = 0; i < plan->matrices.size(); i++) {
      auto y = plain(in[0], plan->matrices[i]);
      int bias = plan->bias[i];
      outputs.push_back(bias == 0 ? y : y + mx::astype(in[bias], y.dtype()));
    }
    return outputs;
  }
};

struct GatedProduct {
  static constexpr const char* name = "GatedLinear";
  std::shared_ptr<const Plan> plan;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    dispatch_plan(plan, in, out, stream);
  }

  Arrays reference(const Arrays& in) const {
    return {
        reference::activated(*plan->act, plain(in[0], plan->matrices[0])) *
        plain(in[0], plan->matrices[1])};
  }
};

mx::Shape with_last(mx::Shape shape, int last) {
  shape.back() = last;
  return shape;
}

} // namespace

std::vector<mx::array> linears(
    const mx::array& x,
    const std::vector<MatrixPtr>& w,
    const std::vector<std::optional<mx::array>>& bias,
    Activations mode) {
  MLXLM_CHECK(
      !w.empty() && (bias.empty() || bias.size() == w.size()), "linears");
  Plan plan;
  plan.int8 = mode == Activations::int8;
  Arrays inputs = {x};
  std::vector<mx::Shape> shapes;
  for (std::size_t i = 0; i < w.size(); i++) {
    plan.matrices.push_back(packed(w[i]));
    const auto& m = *plan.matrices.back();
    check_input(x, m, "linear");
    MLXLM_CHECK(
        m.experts() == 1, "linear takes one matrix, not stacked experts");
    plan.bias.push_back(0);
    if (!bias.empty() && bias[i]) {
      check_bias(*bias[i], {m.rows()}, "linear");
      plan.bias.back() = static_cast<int>(inputs.size());
      inputs.push_back(*bias[i]);
    }
    shapes.push_back(with_last(x.shape(), m.rows()));
  }
  return cpu_arrays(
      Products{std::make_shared<const Plan>(std::move(plan))},
      std::move(shapes),
      std::vector<mx::Dtype>(w.size(), x.dtype()),
      inputs);
}

mx::array linear(
    const mx::array& x,
    const MatrixPtr& w,
    const std::optional<mx::array>& bias,
    Activations mode) {
  return linears(x, {w}, {bias}, mode)[0];
}

mx::array gated_linear(
    const mx::array& x,
    const MatrixPtr& gate,
    const MatrixPtr& up,
    Activation act,
    Activations mode) {
  Plan plan;
  plan.int8 = mode == Activations::int8;
  plan.act = act;
  plan.matrices = {packed(gate), packed(up)};
  for (const auto& m : plan.matrices) {
    check_input(x, *m, "gated_linear");
    MLXLM_CHECK(m->experts() == 1, "gated_linear takes no stacked experts");
  }
  MLXLM_CHECK(gate->rows() == up->rows(), "gate and up differ in outputs");
  auto shape = with_last(x.shape(), gate->rows());
  return cpu_array(
      GatedProduct{std::make_shared<const Plan>(std::move(plan))},
      std::move(shape),
      x.dtype(),
      {x});
}

} // namespace mlxlm::kernels

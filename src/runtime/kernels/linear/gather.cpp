// Products with the experts that each row chose.
#include <mlx/ops.h>

#include <cstring>

#include "core/check.h"
#include "runtime/kernels/linear.h"
#include "runtime/kernels/linear/operands.h"

namespace mlxlm::kernels {
namespace {

// Inputs: x [T, 1 or k, cols], ids [T, k], and the bias [experts, rows] if any.
struct GatherProduct {
  static constexpr const char* name = "GatherLinear";
  PackedPtr matrix;
  bool int8;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    dispatch(stream, [op = *this, in = views(in), out = allocate_all(out)] {
      op.run(in, out[0]);
    });
  }

  Arrays reference(const Arrays& inputs) const {
    const auto& x = inputs[0];
    auto ids = mx::stop_gradient(inputs[1]);
    auto all = mx::reshape(
        unpack(matrix, x.dtype()),
        {matrix->experts(), matrix->rows(), matrix->cols()});
    auto w = mx::take(all, ids, 0); // [T, k, rows, cols]
    auto y = mx::squeeze(mx::matmul(w, mx::expand_dims(x, -1)), -1);
    if (inputs.size() == 3) {
      y = y + mx::astype(mx::take(inputs[2], ids, 0), y.dtype());
    }
    return {y};
  }

  // One segment for each expert that was chosen; ids outside the experts give
  // zeros.
  void run(const std::vector<InputView>& in, void* out) const {
    const auto& w = *matrix;
    const auto& x = in[0];
    std::vector<std::byte> space, id_space, bias_space;
    auto* ids = static_cast<const std::int32_t*>(in[1].elements(id_space));
    auto choices = static_cast<int>(in[1].size);
    int k = in[1].shape.back();
    int rows = static_cast<int>(x.size / w.cols());
    bool shared = rows != choices; // one row for every choice
    std::vector<std::vector<int>> to(w.experts());
    std::vector<std::vector<int>> from(w.experts());
    auto type = operand_type(x.type);
    auto bytes = mx::size_of(x.type);
    for (int i = 0; i < choices; i++) {
      if (ids[i] < 0 || ids[i] >= w.experts()) {
        auto row = bytes * w.rows();
        std::memset(static_cast<char*>(out) + i * row, 0, row);
        continue;
      }
      to[ids[i]].push_back(i);
      from[ids[i]].push_back(shared ? i / k : i);
    }
    const char* bias = nullptr;
    if (in.size() == 3) {
      bias = static_cast<const char*>(in[2].elements(bias_space));
    }
    std::vector<Segment> segments;
    for (int e = 0; e < w.experts(); e++) {
      if (to[e].empty()) {
        continue;
      }
      Segment s;
      s.matrix = &w;
      s.expert = e;
      if (bias) {
        auto offset = mx::size_of(in[2].type) * std::size_t(e) * w.rows();
        s.bias = {bias + offset, operand_type(in[2].type)};
      }
      s.count = static_cast<int>(to[e].size());
      s.from = from[e].data();
      s.to = to[e].data();
      s.out = out;
      segments.push_back(s);
    }
    multiply({x.elements(space), type}, rows, w.cols(), int8, segments);
  }
};

} // namespace

mx::array gather_linear(
    const mx::array& x,
    const MatrixPtr& w,
    const mx::array& ids,
    const std::optional<mx::array>& bias,
    Activations mode) {
  auto matrix = packed(w);
  check_input(x, *matrix, "gather_linear");
  bool fits = ids.ndim() == 2 && x.ndim() == 3 && x.shape(0) == ids.shape(0) &&
      (x.shape(1) == 1 || x.shape(1) == ids.shape(1));
  MLXLM_CHECK(fits, "gather_linear takes x [T, 1 or k, cols] and ids [T, k]");
  Arrays inputs = {x, index_array(ids, "gather_linear")};
  if (bias) {
    check_bias(*bias, {matrix->experts(), matrix->rows()}, "gather_linear");
    inputs.push_back(*bias);
  }
  mx::Shape shape = {ids.shape(0), ids.shape(1), matrix->rows()};
  return cpu_array(
      GatherProduct{std::move(matrix), mode == Activations::int8},
      std::move(shape),
      x.dtype(),
      inputs);
}

} // namespace mlxlm::kernels

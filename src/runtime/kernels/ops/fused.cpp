// CPU primitives of the norms, the gated activations and top_k; see fused.h.
#include "runtime/kernels/ops/fused.h"

#include <mlx/ops.h>

#include <algorithm>
#include <numeric>

#include "runtime/kernels/ops/float_vector.h"
#include "runtime/kernels/ops/order.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels::fused {

namespace {

// ---- norms ------------------------------------------------------------------

struct Norm {
  static constexpr const char* name = "mlxlm::norm";
  bool center, weight, bias, residual;
  float eps, offset;

  // in: x [, residual] [, weight] [, bias]; out: [sum,] norm
  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    for (auto& x : out)
      allocate(x);
    std::size_t next = 1;
    auto vector = [&](bool has, float plus) {
      return has ? FloatVector(in[next++], plus) : FloatVector();
    };
    std::optional<RowView> other;
    if (residual) other = RowView(in[next++]);
    auto w = vector(weight, offset), b = vector(bias, 0);
    auto* sum = residual ? out[0].data<std::byte>() : nullptr;
    dispatch(
        stream,
        [=,
         x = RowView(in[0]),
         rows = rows_of(in[0]),
         norm =
             NormRow{
                 type_of(in[0]),
                 in[0].shape(-1),
                 eps,
                 center,
                 nullptr,
                 nullptr},
         to = out.back().data<std::byte>()]() mutable {
          std::vector<float> w_values, b_values;
          norm.weight = w.read(w_values);
          norm.bias = b.read(b_values);
          auto bytes = x.row_bytes();
          for_row_blocks(rows, 2 * norm.dim, [&](auto first, auto last) {
            std::vector<std::byte> apart(2 * bytes);
            for (auto i = first; i < last; ++i) {
              norm_row(
                  norm,
                  x.row(i, apart.data()),
                  other ? other->row(i, apart.data() + bytes) : nullptr,
                  sum ? sum + i * bytes : nullptr,
                  to + i * bytes);
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    auto x = residual ? in[0] + in[1] : in[0];
    std::size_t next = residual ? 2 : 1;
    std::optional<mx::array> w, b;
    if (weight) w = in[next++];
    if (bias) b = in[next++];
    auto y = center ? kernels::reference::layer_norm(x, w, b, eps)
                    : kernels::reference::rms_norm(x, w, eps, offset);
    return residual ? Arrays{x, y} : Arrays{y};
  }
};

Arrays norm_inputs(
    const mx::array& x,
    const std::optional<mx::array>& a,
    const std::optional<mx::array>& b = std::nullopt,
    const std::optional<mx::array>& c = std::nullopt) {
  Arrays in{x};
  for (auto* more : {&a, &b, &c}) {
    if (*more) in.push_back(**more);
  }
  return in;
}

// ---- gated activations ------------------------------------------------------

struct Glu {
  static constexpr const char* name = "mlxlm::glu";
  Activation act;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    dispatch(
        stream,
        [gate = RowView(in[0]),
         up = RowView(in[1]),
         type = type_of(in[0]),
         dim = in[0].shape(-1),
         rows = rows_of(in[0]),
         to = out[0].data<std::byte>(),
         act = act] {
          auto bytes = gate.row_bytes();
          for_row_blocks(rows, 8 * dim, [&](auto first, auto last) {
            std::vector<std::byte> apart(2 * bytes);
            for (auto i = first; i < last; ++i) {
              auto* g = gate.row(i, apart.data());
              auto* u = up.row(i, apart.data() + bytes);
              glu_row(type, act, g, u, to + i * bytes, dim);
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {kernels::reference::glu(act, in[0], in[1])};
  }
};

// ---- top k ------------------------------------------------------------------

struct TopK {
  static constexpr const char* name = "mlxlm::top_k";
  int k;

  // The k best of x[n], in the order of comes_before.
  static void select(
      const float* x,
      int n,
      int k,
      std::vector<std::uint32_t>& best) {
    auto better = [x](std::uint32_t a, std::uint32_t b) {
      return comes_before(x, a, b);
    };
    best.resize(k);
    std::iota(best.begin(), best.end(), 0);
    // A heap with the worst of the best on top.
    std::make_heap(best.begin(), best.end(), better);
    for (int i = k; i < n; ++i) {
      if (!better(i, best.front())) continue;
      std::pop_heap(best.begin(), best.end(), better);
      best.back() = i;
      std::push_heap(best.begin(), best.end(), better);
    }
    std::sort_heap(best.begin(), best.end(), better);
  }

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    for (auto& x : out)
      allocate(x);
    dispatch(
        stream,
        [x = RowView(in[0]),
         type = type_of(in[0]),
         dim = in[0].shape(-1),
         rows = rows_of(in[0]),
         index = out[0].data<std::uint32_t>(),
         value = out[1].data<std::byte>(),
         k = k] {
          auto item = size_of(type);
          for_row_blocks(rows, 4 * dim, [&](auto first, auto last) {
            std::vector<std::byte> apart(x.row_bytes());
            std::vector<float> floats(dim);
            std::vector<std::uint32_t> best;
            for (auto i = first; i < last; ++i) {
              auto* row = x.row(i, apart.data());
              to_floats(type, row, dim, 0, floats.data());
              select(floats.data(), dim, k, best);
              for (int j = 0; j < k; ++j) {
                index[i * k + j] = best[j];
                std::memcpy(
                    value + (i * k + j) * item, row + best[j] * item, item);
              }
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    auto [index, value] = kernels::reference::top_k(in[0], k);
    return {index, value};
  }
};

} // namespace

mx::array rms_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    float eps,
    float offset) {
  Norm op{false, weight.has_value(), false, false, eps, offset};
  return cpu_array(op, x.shape(), x.dtype(), norm_inputs(x, weight));
}

std::pair<mx::array, mx::array> add_rms_norm(
    const mx::array& x,
    const mx::array& residual,
    const std::optional<mx::array>& weight,
    float eps,
    float offset) {
  Norm op{false, weight.has_value(), false, true, eps, offset};
  auto out = cpu_arrays(
      op,
      {x.shape(), x.shape()},
      {x.dtype(), x.dtype()},
      norm_inputs(x, residual, weight));
  return {out[0], out[1]};
}

mx::array layer_norm(
    const mx::array& x,
    const std::optional<mx::array>& weight,
    const std::optional<mx::array>& bias,
    float eps) {
  Norm op{true, weight.has_value(), bias.has_value(), false, eps, 0};
  return cpu_array(op, x.shape(), x.dtype(), norm_inputs(x, weight, bias));
}

mx::array glu(Activation act, const mx::array& gate, const mx::array& up) {
  return cpu_array(Glu{act}, gate.shape(), gate.dtype(), {gate, up});
}

std::pair<mx::array, mx::array> top_k(const mx::array& x, int k) {
  auto shape = x.shape();
  shape.back() = k;
  auto out = cpu_arrays(TopK{k}, {shape, shape}, {mx::uint32, x.dtype()}, {x});
  return {out[0], out[1]};
}

} // namespace mlxlm::kernels::fused

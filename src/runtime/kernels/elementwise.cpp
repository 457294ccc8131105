// The kernels of elementwise.h: rows in f32, results rounded once.
#include "runtime/kernels/elementwise.h"

#include <mlx/ops.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

bool fast(const mx::array& x) {
  return on_cpu() && x.size() > 0 && x.ndim() > 0 && float_type(x.dtype());
}

// The function of one or two rows of floats, in place of the first.
struct Function {
  enum class Kind : std::uint8_t { add, multiply, scale, act, gate };
  Kind kind;
  float factor = 1;
  Activation act = Activation::silu;

  void operator()(float* x, const float* y, int n) const {
    switch (kind) {
      case Kind::add:
        for (int i = 0; i < n; ++i)
          x[i] += y[i];
        return;
      case Kind::multiply:
        for (int i = 0; i < n; ++i)
          x[i] *= y[i];
        return;
      case Kind::scale:
        for (int i = 0; i < n; ++i)
          x[i] *= factor;
        return;
      case Kind::gate:
        for (int i = 0; i < n; ++i)
          x[i] /= 1 + std::exp(-y[i]);
        return;
      case Kind::act:
        std::vector<float> ones(n, 1.0f);
        return glu_row(FloatType::f32, act, x, ones.data(), x, n);
    }
  }
};

struct Elementwise {
  static constexpr const char* name = "mlxlm::elementwise";
  Function f;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    int n = in[0].shape(-1);
    std::vector<RowView> views(in.begin(), in.end());
    dispatch(
        stream,
        [f = f,
         n,
         views,
         type = *float_type(in[0].dtype()),
         rows = in[0].size() / n,
         to = out[0].data<std::byte>()] {
          auto bytes = views[0].row_bytes();
          for_row_blocks(rows, 4 * std::size_t(n), [&](auto first, auto last) {
            std::vector<std::byte> apart(bytes);
            std::vector<float> x(n), y(views.size() > 1 ? n : 0);
            bool same = y.empty() || views[1].row_bytes() == bytes;
            for (auto i = first; i < last; ++i) {
              to_floats(type, views[0].row(i, apart.data()), n, 0, x.data());
              if (!y.empty()) {
                auto* row = views[1].row(i, apart.data());
                to_floats(type, row, same ? n : 1, 0, y.data());
                if (!same) std::fill(y.begin(), y.end(), y[0]);
              }
              f(x.data(), y.data(), n);
              from_floats(type, x.data(), n, 1, to + i * bytes);
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    switch (f.kind) {
      case Function::Kind::add:
        return {in[0] + in[1]};
      case Function::Kind::multiply:
        return {in[0] * in[1]};
      case Function::Kind::scale:
        return {in[0] * mx::array(f.factor, in[0].dtype())};
      case Function::Kind::gate:
        return {in[0] * mx::sigmoid(in[1])};
      case Function::Kind::act:
        return {kernels::reference::activated(f.act, in[0])};
    }
    return {};
  }
};

bool gates_rows(const mx::array& x, const mx::array& gate) {
  auto rows = x.shape();
  if (!rows.empty()) rows.back() = 1;
  return gate.shape() == rows && gate.dtype() == x.dtype();
}

mx::array run(const Function& f, const Arrays& in) {
  bool fits = in.size() == 1 ||
      (in[0].shape() == in[1].shape() && in[0].dtype() == in[1].dtype()) ||
      (f.kind == Function::Kind::gate && gates_rows(in[0], in[1]));
  Elementwise op{f};
  if (!fits || !fast(in[0])) return op.reference(in)[0];
  return cpu_array(op, in[0].shape(), in[0].dtype(), in);
}

struct WeightedSum {
  static constexpr const char* name = "mlxlm::weighted_sum";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    int k = in[0].shape(1), n = in[0].shape(2);
    dispatch(
        stream,
        [k,
         n,
         parts = RowView(in[0]),
         weights = RowView(in[1]),
         type = *float_type(in[0].dtype()),
         tokens = std::size_t(in[0].shape(0)),
         to = out[0].data<std::byte>()] {
          auto bytes = parts.row_bytes();
          for_row_blocks(
              tokens, std::size_t(k) * n, [&](auto first, auto last) {
                std::vector<std::byte> apart(bytes), wide(weights.row_bytes());
                std::vector<float> x(n), sum(n);
                for (auto t = first; t < last; ++t) {
                  auto* w = reinterpret_cast<const float*>(
                      weights.row(t, wide.data()));
                  std::fill(sum.begin(), sum.end(), 0.0f);
                  for (int j = 0; j < k; ++j) {
                    auto* row = parts.row(t * k + j, apart.data());
                    to_floats(type, row, n, 0, x.data());
                    for (int i = 0; i < n; ++i)
                      sum[i] += w[j] * x[i];
                  }
                  from_floats(type, sum.data(), n, 1, to + t * bytes);
                }
              });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {kernels::reference::weighted_sum(in[0], in[1])};
  }
};

} // namespace

mx::array add(const mx::array& a, const mx::array& b) {
  return run({Function::Kind::add}, {a, b});
}

mx::array multiplied(const mx::array& a, const mx::array& b) {
  return run({Function::Kind::multiply}, {a, b});
}

mx::array scaled(const mx::array& x, float factor) {
  if (x.dtype() == mx::float16)
    factor = static_cast<float>(static_cast<mx::float16_t>(factor));
  if (x.dtype() == mx::bfloat16)
    factor = static_cast<float>(static_cast<mx::bfloat16_t>(factor));
  return run({Function::Kind::scale, factor}, {x});
}

mx::array activated(Activation act, const mx::array& x) {
  return run({Function::Kind::act, 1, act}, {x});
}

mx::array gated_by(const mx::array& x, const mx::array& gate) {
  return run({Function::Kind::gate}, {x, gate});
}

mx::array weighted_sum(const mx::array& parts, const mx::array& weights) {
  bool fits = fast(parts) && parts.ndim() == 3 && weights.ndim() == 2 &&
      weights.dtype() == mx::float32 && weights.shape(0) == parts.shape(0) &&
      weights.shape(1) == parts.shape(1);
  if (!fits) return reference::weighted_sum(parts, weights);
  return cpu_array(
      WeightedSum{},
      mx::Shape{parts.shape(0), parts.shape(2)},
      parts.dtype(),
      {parts, weights});
}

namespace reference {

mx::array activated(Activation act, const mx::array& x) {
  auto f = mx::astype(x, mx::float32);
  auto half = mx::array(0.5f), one = mx::array(1.0f);
  switch (act) {
    case Activation::silu:
      f = f * mx::sigmoid(f);
      break;
    case Activation::gelu_tanh:
      f = half * f *
          (one +
           mx::tanh(
               mx::array(0.7978845608f) *
               (f + mx::array(0.044715f) * f * f * f)));
      break;
    case Activation::gelu_erf:
      f = half * f * (one + mx::erf(f * mx::array(0.70710678f)));
      break;
    case Activation::relu:
      f = mx::maximum(f, mx::array(0.0f));
      break;
    case Activation::relu2:
      f = mx::square(mx::maximum(f, mx::array(0.0f)));
      break;
  }
  return mx::astype(f, x.dtype());
}

mx::array weighted_sum(const mx::array& parts, const mx::array& weights) {
  auto w = mx::expand_dims(mx::astype(weights, parts.dtype()), -1);
  return mx::sum(parts * w, 1);
}

} // namespace reference

} // namespace mlxlm::kernels

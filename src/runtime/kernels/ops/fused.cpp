// CPU primitives of the small operations; see fused.h.
#include "runtime/kernels/ops/fused.h"

#include <mlx/ops.h>

#include <algorithm>
#include <numeric>

#include "runtime/kernels/ops/order.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels::fused {

namespace {

FloatType type_of(const mx::array& x) {
  return *float_type(x.dtype());
}

std::size_t rows_of(const mx::array& x) {
  return x.shape(-1) ? x.size() / x.shape(-1) : 0;
}

// A vector of any float type and stride as f32; empty when there is none.
class FloatVector {
 public:
  FloatVector() = default;
  explicit FloatVector(const mx::array& x, float offset = 0)
      : view_(x), type_(type_of(x)), size_(int(x.size())), offset_(offset) {}

  // Reads on the thread that calls; `buffer` keeps the values.
  const float* read(std::vector<float>& buffer) const {
    if (!view_) return nullptr;
    std::vector<std::byte> apart(view_->row_bytes());
    auto* row = view_->row(0, apart.data());
    bool as_it_is =
        type_ == FloatType::f32 && offset_ == 0 && row != apart.data();
    if (as_it_is) return reinterpret_cast<const float*>(row);
    buffer.resize(size_);
    to_floats(type_, row, size_, offset_, buffer.data());
    return buffer.data();
  }

 private:
  std::optional<RowView> view_;
  FloatType type_ = FloatType::f32;
  int size_ = 0;
  float offset_ = 0;
};

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

// ---- rope -------------------------------------------------------------------

struct Rope {
  static constexpr const char* name = "mlxlm::rope";
  struct Part {
    int head_dim;
    bool norm;
    float eps, offset;
  };
  RopeShape shape;
  std::vector<Part> parts;

  struct Bound { // a part of an evaluation
    RowView rows;
    FloatVector weight;
    int heads;
    RopeHead head;
    std::byte* out;
    std::vector<float> norm = {};
  };

  struct Scratch {
    std::vector<float> floats; // one head
    std::vector<std::byte> apart;

    explicit Scratch(const std::vector<Bound>& bound) {
      std::size_t head = 0, row = 0;
      for (auto& part : bound) {
        head = std::max<std::size_t>(head, part.head.head_dim);
        row = std::max(row, part.rows.row_bytes());
      }
      floats.resize(head);
      apart.resize(row);
    }
  };

  // in: positions, inv_freq, then each part's x [, weight]
  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    std::vector<Bound> bound;
    std::size_t next = 2;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      allocate(out[i]);
      auto& part = parts[i];
      auto& x = in[next++];
      auto weight =
          part.norm ? FloatVector(in[next++], part.offset) : FloatVector();
      bound.push_back(
          {RowView(x),
           weight,
           out[i].shape(2),
           {type_of(x),
            part.head_dim,
            shape.dims,
            shape.traditional,
            nullptr,
            part.eps},
           out[i].data<std::byte>()});
    }
    dispatch(
        stream,
        [bound = std::move(bound),
         shape = shape,
         tokens = in[0].shape(0),
         positions = RowView(in[0]),
         inv_freq = FloatVector(in[1])]() mutable {
          run(bound, shape, tokens, positions, inv_freq);
        });
  }

  static void run(
      std::vector<Bound>& bound,
      const RopeShape& shape,
      int tokens,
      const RowView& positions,
      const FloatVector& inv_freq) {
    std::vector<float> freq_values;
    auto* freqs = inv_freq.read(freq_values);
    std::vector<std::byte> apart(positions.row_bytes());
    auto* at =
        reinterpret_cast<const std::int32_t*>(positions.row(0, apart.data()));
    std::size_t cost = 0;
    for (auto& part : bound) {
      cost += 4 * part.heads * part.head.head_dim;
      part.head.norm = part.weight.read(part.norm);
    }
    for_row_blocks(tokens, cost, [&](auto first, auto last) {
      std::vector<float> angles(shape.dims);
      Scratch scratch(bound);
      int half = shape.dims / 2;
      auto *c = angles.data(), *s = c + half;
      for (auto t = first; t < last; ++t) {
        rope_angles(at[t], freqs, half, shape.magnitude, c, s);
        for (auto& part : bound)
          token(part, t, c, s, scratch);
      }
    });
  }

  static void token(
      const Bound& part,
      std::size_t t,
      const float* c,
      const float* s,
      Scratch& scratch) {
    auto& head = part.head;
    auto bytes = head.head_dim * size_of(head.type);
    auto* apart = scratch.apart.data();
    // A row of the input is one head or all of them.
    bool whole = part.rows.row_bytes() != bytes;
    auto* all = whole ? part.rows.row(t, apart) : nullptr;
    for (int h = 0; h < part.heads; ++h) {
      auto index = t * part.heads + h;
      auto* x = whole ? all + h * bytes : part.rows.row(index, apart);
      auto* to = part.out + index * bytes;
      rope_head(head, c, s, x, to, scratch.floats.data());
    }
  }

  Arrays reference(const Arrays& in) const {
    std::vector<RopeInput> inputs;
    std::size_t next = 2;
    for (auto& part : parts) {
      RopeInput input{in[next++], part.head_dim};
      if (part.norm) {
        input.norm_weight = in[next++];
        input.norm_eps = part.eps;
        input.norm_offset = part.offset;
      }
      inputs.push_back(input);
    }
    return kernels::reference::rope(inputs, in[0], in[1], shape);
  }
};

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
    switch (act) {
      case Activation::silu:
        return {kernels::reference::swiglu(in[0], in[1])};
      case Activation::gelu_tanh:
        return {kernels::reference::geglu_tanh(in[0], in[1])};
      case Activation::gelu_erf:
        return {kernels::reference::geglu_erf(in[0], in[1])};
    }
    return {};
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

std::vector<mx::array> rope(
    const std::vector<RopeInput>& inputs,
    const mx::array& positions,
    const mx::array& inv_freq,
    const RopeShape& shape) {
  Rope op{shape, {}};
  Arrays in{positions, inv_freq};
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> types;
  int tokens = positions.shape(0);
  for (auto& input : inputs) {
    bool norm = input.norm_weight.has_value();
    op.parts.push_back(
        {input.head_dim, norm, input.norm_eps, input.norm_offset});
    in.push_back(input.x);
    if (norm) in.push_back(*input.norm_weight);
    int heads = int(input.x.size()) / tokens / input.head_dim;
    shapes.push_back({1, tokens, heads, input.head_dim});
    types.push_back(input.x.dtype());
  }
  return cpu_arrays(std::move(op), std::move(shapes), types, in);
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

// The CPU primitive of the rotary embedding; see fused.h.
#include <mlx/ops.h>

#include <algorithm>

#include "runtime/kernels/ops/float_vector.h"
#include "runtime/kernels/ops/fused.h"
#include "runtime/kernels/primitive.h"

namespace mlxlm::kernels::fused {

namespace {

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

} // namespace

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

} // namespace mlxlm::kernels::fused

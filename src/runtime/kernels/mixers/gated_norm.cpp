// Norms with a gate; arrays joined side by side.
#include "runtime/kernels/mixers.h"

#include <mlx/ops.h>

#include <cstring>

#include "runtime/kernels/mixers/shared.h"
#include "runtime/kernels/packed_rows.h"
#include "runtime/kernels/scan/rows.h"

namespace mlxlm::kernels {

namespace {

struct GatedNormOp {
  static constexpr const char* name = "mlxlm::gated_norm";
  GatedNorm norm;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    GatedNormRow row{
        in[0].shape(-1),
        norm.groups,
        norm.eps,
        norm.gate_first,
        norm.sigmoid,
        in[2].data<float>(),
        nullptr,
        nullptr};
    dispatch(
        stream,
        [row,
         x = FloatRows(in[0]),
         z = FloatRows(in[1]),
         rows = in[0].size() / in[0].shape(-1),
         to = out[0].data<std::byte>()] {
          auto n = std::size_t(row.width);
          for_row_blocks(rows, 8 * n, [&](auto first, auto last) {
            thread_local std::vector<float> space;
            space.resize(2 * n);
            auto one = row;
            one.x = space.data();
            one.gate = space.data() + n;
            for (auto i = first; i < last; ++i) {
              x.read(i, 0, row.width, one.x);
              z.read(i, 0, row.width, space.data() + n);
              gated_norm_row(one);
              from_floats(x.type(), one.x, row.width, 1, to + i * n * x.size());
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {kernels::reference::gated_norm(in[0], in[1], in[2], norm)};
  }
};

struct Joined {
  static constexpr const char* name = "mlxlm::joined";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    auto width = std::size_t(out[0].shape(-1)) * out[0].itemsize();
    std::vector<RowView> views(in.begin(), in.end());
    dispatch(
        stream,
        [views,
         width,
         rows = out[0].size() / out[0].shape(-1),
         to = out[0].data<std::byte>()] {
          for_row_blocks(rows, width / 4, [&](auto first, auto last) {
            std::vector<std::byte> apart(width);
            for (auto i = first; i < last; ++i) {
              auto* at = to + i * width;
              for (auto& view : views) {
                std::memcpy(at, view.row(i, apart.data()), view.row_bytes());
                at += view.row_bytes();
              }
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {mx::concatenate(in, -1)};
  }
};

} // namespace

mx::array gated_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    const GatedNorm& norm) {
  bool fast = on_cpu() && is_any_float(x) && is_any_float(gate) &&
      x.size() > 0 && x.shape() == gate.shape() &&
      is_f32(weight, {x.shape(-1)}) && norm.groups > 0 &&
      x.shape(-1) % norm.groups == 0;
  if (!fast) return reference::gated_norm(x, gate, weight, norm);
  return cpu_array(
      GatedNormOp{norm}, x.shape(), x.dtype(), {x, gate, packed_rows(weight)});
}

mx::array joined(const std::vector<mx::array>& parts) {
  auto shape = parts[0].shape();
  bool fast = on_cpu() && shape.size() > 0;
  shape.back() = 0;
  for (auto& part : parts) {
    auto outer = part.shape();
    fast = fast && outer.size() == shape.size() &&
        part.dtype() == parts[0].dtype() && part.size() > 0;
    if (!fast) return mx::concatenate(parts, -1);
    shape.back() += outer.back();
    outer.back() = shape.back();
    fast = outer == shape;
  }
  if (!fast) return mx::concatenate(parts, -1);
  return cpu_array(Joined{}, shape, parts[0].dtype(), parts);
}

namespace reference {

mx::array gated_norm(
    const mx::array& x,
    const mx::array& gate,
    const mx::array& weight,
    const GatedNorm& norm) {
  auto z = mx::astype(gate, mx::float32);
  z = norm.sigmoid ? mx::sigmoid(z) : z * mx::sigmoid(z);
  auto v = norm.gate_first ? mx::astype(x, mx::float32) * z
                           : mx::astype(x, mx::float32);
  auto parts = v.shape();
  parts.back() = norm.groups;
  parts.push_back(v.shape(-1) / norm.groups);
  auto grouped = mx::reshape(v, parts);
  auto mean = mx::mean(mx::square(grouped), -1, true);
  v = mx::reshape(grouped * mx::rsqrt(mean + mx::array(norm.eps)), v.shape());
  v = v * weight;
  if (!norm.gate_first) v = v * z;
  return mx::astype(v, x.dtype());
}

} // namespace reference

} // namespace mlxlm::kernels

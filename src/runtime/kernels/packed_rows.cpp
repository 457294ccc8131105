#include "runtime/kernels/packed_rows.h"

#include <mlx/ops.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {
namespace {

struct PackedRows {
  static constexpr const char* name = "mlxlm::packed_rows";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    const auto& x = in[0];
    if (x.flags().row_contiguous) {
      out[0].copy_shared_buffer(x);
      return dispatch(stream, [] {});
    }
    allocate(out[0]);
    dispatch(
        stream,
        [rows = RowView(x),
         count = x.size() / static_cast<std::size_t>(x.shape(-1)),
         to = out[0].data<std::byte>()] {
          auto bytes = rows.row_bytes();
          for_row_blocks(count, bytes, [&](std::size_t i, std::size_t last) {
            std::vector<std::byte> apart(bytes);
            for (; i < last; ++i)
              std::memcpy(to + i * bytes, rows.row(i, apart.data()), bytes);
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    return {mx::contiguous(in[0])};
  }
};

} // namespace

mx::array packed_rows(const mx::array& x) {
  if (!on_cpu() || x.size() == 0 || x.ndim() == 0) return mx::contiguous(x);
  return cpu_array(PackedRows{}, x.shape(), x.dtype(), {x});
}

} // namespace mlxlm::kernels

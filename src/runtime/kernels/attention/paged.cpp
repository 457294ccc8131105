// The primitive of paged attention; see paged.h.
#include "runtime/kernels/attention/paged.h"

#include <mlx/ops.h>

#include "runtime/kernels/attention/paged_attend.h"
#include "runtime/kernels/attention/paged_write.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

struct Paged {
  static constexpr const char* name = "mlxlm::paged_attention";
  std::shared_ptr<const PagedAttention> op;
  bool rows, sinks;

  // in: q [, k, v] [, sinks] [, after...]; out: result, written
  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    for (auto& x : out)
      allocate(x);
    auto weak = [](const mx::array& x) {
      return mx::array::unsafe_weak_copy(x);
    };
    Arrays used;
    for (int i = 0; i < 1 + (rows ? 2 : 0) + sinks; ++i) {
      used.push_back(weak(in[i]));
    }
    dispatch(
        stream,
        [op = op,
         rows = rows,
         sinks = sinks,
         used,
         result = weak(out[0])]() mutable {
          std::vector<float> logits;
          if (sinks) {
            auto& x = used.back();
            logits.resize(x.size());
            RowView view(x);
            std::vector<std::byte> apart(view.row_bytes());
            to_floats(
                *float_type(x.dtype()),
                view.row(0, apart.data()),
                int(x.size()),
                0,
                logits.data());
          }
          std::optional<PassRows> own;
          if (rows) {
            write_pages(*op, used[0], used[1], used[2]);
            own.emplace(PassRows{used[1], used[2]});
          }
          attend_paged(*op, used[0], own, logits, result);
        });
  }

  Arrays reference(const Arrays&) const {
    fail(
        ErrorKind::internal,
        "attention",
        "expected a stateless memory for gradients, found pages");
  }
};

} // namespace

PagedResult paged_attention(
    PagedAttention op,
    const mx::array& q,
    const std::optional<std::pair<mx::array, mx::array>>& rows,
    const std::optional<mx::array>& sinks,
    const std::vector<mx::array>& after) {
  auto known = [](const mx::array& x) {
    return float_type(x.dtype()) ? x : mx::astype(x, mx::float32);
  };
  Arrays in{known(q)};
  if (rows) {
    in.push_back(known(rows->first));
    in.push_back(
        rows->second.dtype() == in[1].dtype()
            ? rows->second
            : mx::astype(rows->second, in[1].dtype()));
  }
  if (sinks) in.push_back(known(*sinks));
  in.insert(in.end(), after.begin(), after.end());
  mx::Shape shape{1, q.shape(1), q.shape(2), op.layout.v_dim};
  Paged primitive{
      std::make_shared<const PagedAttention>(std::move(op)),
      rows.has_value(),
      sinks.has_value()};
  auto out = cpu_arrays(
      std::move(primitive), {shape, {1}}, {in[0].dtype(), mx::uint8}, in);
  return {out[0], out[1]};
}

} // namespace mlxlm::kernels

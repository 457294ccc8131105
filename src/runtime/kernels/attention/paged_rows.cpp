// Keeping and reading latent rows; see paged_rows.h.
#include "runtime/kernels/attention/paged_rows.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cstring>

#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

mx::Dtype dtype_of(FloatType type) {
  return type == FloatType::f32 ? mx::float32
      : type == FloatType::f16  ? mx::float16
                                : mx::bfloat16;
}

// A row's page, and how the layer's rows lie there.
class RowPlace {
 public:
  RowPlace(const PagedRows& op, const PagedSegment& s, int page)
      : op_(op),
        packed_(op.packed && s.packed && (*s.packed)[page]),
        at_((*s.pages)[page] + (packed_ ? op.packed_offset : op.layer_offset)) {
  }

  void store(int token, FloatType type, const void* row, float* scratch) const {
    auto& layout = op_.layout;
    if (!packed_)
      return store_row(layout, at_, 0, token, type, row, row, scratch);
    to_floats(type, row, layout.k_dim, 0, scratch);
    store_packed_row(*op_.packed, at_, 0, token, scratch, scratch);
  }

  void load(int count, std::byte* out, float* scratch) const {
    auto row_bytes = size_of(op_.layout.type) * op_.layout.k_dim;
    if (!packed_) {
      std::memcpy(out, at_, count * row_bytes);
      return;
    }
    for (int t = 0; t < count; ++t, out += row_bytes) {
      load_packed_row(*op_.packed, at_, 0, t, scratch, nullptr);
      from_floats(op_.layout.type, scratch, op_.layout.k_dim, 1, out);
    }
  }

 private:
  const PagedRows& op_;
  bool packed_;
  std::byte* at_;
};

void keep(const PagedRows& op, const mx::array& x) {
  RowView rows(x);
  auto type = *float_type(x.dtype());
  std::vector<float> scratch(op.layout.k_dim + op.layout.v_dim);
  std::vector<std::byte> apart(rows.row_bytes());
  int tokens = op.layout.tokens;
  for (const auto& s : op.segments)
    for (int t = 0; t < s.count; ++t) {
      int position = s.offset + t;
      const auto* row = rows.row(s.first + t, apart.data());
      RowPlace(op, s, position / tokens)
          .store(position % tokens, type, row, scratch.data());
    }
}

void read(const PagedRows& op, std::byte* out) {
  const auto& s = op.segments.front();
  std::vector<float> scratch(op.layout.k_dim);
  auto row_bytes = size_of(op.layout.type) * op.layout.k_dim;
  int all = s.offset + s.count, tokens = op.layout.tokens;
  for (int first = 0; first < all; first += tokens) {
    int count = std::min(tokens, all - first);
    RowPlace(op, s, first / tokens).load(count, out, scratch.data());
    out += count * row_bytes;
  }
}

[[noreturn]] void pages_have_no_gradient() {
  fail(
      ErrorKind::internal,
      "attention",
      "expected a stateless memory for gradients, found pages");
}

struct Keep {
  static constexpr const char* name = "mlxlm::keep_rows";
  std::shared_ptr<const PagedRows> op;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    auto x = mx::array::unsafe_weak_copy(in[0]);
    dispatch(stream, [op = op, x]() { keep(*op, x); });
  }
  Arrays reference(const Arrays&) const {
    pages_have_no_gradient();
  }
};

struct Read {
  static constexpr const char* name = "mlxlm::read_rows";
  std::shared_ptr<const PagedRows> op;

  void eval(const Arrays&, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    auto y = mx::array::unsafe_weak_copy(out[0]);
    dispatch(
        stream, [op = op, y]() mutable { read(*op, y.data<std::byte>()); });
  }
  Arrays reference(const Arrays&) const {
    pages_have_no_gradient();
  }
};

} // namespace

mx::array keep_rows(
    PagedRows op,
    const mx::array& rows,
    const std::vector<mx::array>& after) {
  MLXLM_CHECK(op.layout.latent, "rows of a latent layout");
  Arrays in{float_type(rows.dtype()) ? rows : mx::astype(rows, mx::float32)};
  in.insert(in.end(), after.begin(), after.end());
  return cpu_array(
      Keep{std::make_shared<const PagedRows>(std::move(op))},
      {1},
      mx::uint8,
      in);
}

mx::array read_rows(PagedRows op, const std::vector<mx::array>& after) {
  MLXLM_CHECK(
      op.layout.latent && op.segments.size() == 1,
      "one segment of a latent layout");
  const auto& s = op.segments.front();
  mx::Shape shape{s.offset + s.count, op.layout.k_dim};
  auto type = dtype_of(op.layout.type);
  return cpu_array(
      Read{std::make_shared<const PagedRows>(std::move(op))},
      shape,
      type,
      after);
}

} // namespace mlxlm::kernels

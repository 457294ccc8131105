// The primitives behind linear.h. Each knows a plain MLX reference of itself,
// which gives its gradient.
#include "runtime/kernels/linear.h"

#include <mlx/allocator.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/transforms.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "core/check.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/linear/multiply.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/tape.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {
namespace {

using PackedPtr = std::shared_ptr<const Packed>;

mx::Stream cpu_stream() {
  return mx::default_stream(mx::Device(mx::Device::cpu));
}

PackedPtr packed(const MatrixPtr& matrix) {
  auto packed = std::dynamic_pointer_cast<const Packed>(matrix);
  MLXLM_CHECK(packed, "expected a matrix made by pack()");
  return packed;
}

bool is_value_type(mx::Dtype type) {
  return type == mx::float32 || type == mx::float16 || type == mx::bfloat16;
}

Float operand_type(mx::Dtype type) {
  return type == mx::float32 ? Float::f32
      : type == mx::float16  ? Float::f16
                             : Float::bf16;
}

// An input as its task sees it: arrays themselves stay on the thread that built
// them.
struct View {
  explicit View(const mx::array& a)
      : data(a.data<char>()),
        type(a.dtype()),
        size(a.size()),
        shape(a.shape()),
        strides(a.strides()),
        contiguous(a.flags().row_contiguous) {}

  // The elements in row-major order; `space` holds them if they lie otherwise.
  const void* elements(std::vector<std::byte>& space) const {
    if (contiguous) {
      return data;
    }
    std::size_t bytes = mx::size_of(type);
    space.resize(size * bytes);
    std::vector<int> at(shape.size(), 0);
    std::int64_t from = 0;
    for (std::size_t i = 0; i < size; i++) {
      std::memcpy(
          space.data() + i * bytes,
          data + from * static_cast<std::int64_t>(bytes),
          bytes);
      for (auto d = shape.size(); d-- > 0;) {
        from += strides[d];
        if (++at[d] < shape[d]) {
          break;
        }
        from -= strides[d] * shape[d];
        at[d] = 0;
      }
    }
    return space.data();
  }

  const char* data;
  mx::Dtype type;
  std::size_t size;
  mx::Shape shape;
  mx::Strides strides;
  bool contiguous;
};

std::vector<View> views(const Arrays& inputs) {
  return {inputs.begin(), inputs.end()};
}

// Memory for the results, and where it is.
std::vector<void*> allocate_all(Arrays& outputs) {
  std::vector<void*> data;
  for (auto& out : outputs) {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    data.push_back(out.data<void>());
  }
  return data;
}

Unary unary(Gate gate) {
  return gate == Gate::silu     ? Unary::silu
      : gate == Gate::gelu_tanh ? Unary::gelu_tanh
                                : Unary::gelu_erf;
}

// x W^T in plain MLX, the matrix in x's type.
mx::array plain(const mx::array& x, const PackedPtr& w) {
  return mx::matmul(x, mx::transpose(unpack(w, x.dtype())));
}

// A primitive with gradients through `reference`.
class WithReference : public mx::Primitive, public Recordable {
 public:
  using mx::Primitive::Primitive;
  virtual Arrays reference(const Arrays& inputs) = 0;

  void eval_gpu(const Arrays&, Arrays&) override {
    fail(ErrorKind::internal, name(), "expected the CPU device, found a GPU");
  }

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays&) override {
    Arrays wanted;
    for (int n : argnums) {
      wanted.push_back(primals[n]);
    }
    auto f = [&](const Arrays& changing) {
      auto inputs = primals;
      for (std::size_t i = 0; i < argnums.size(); i++) {
        inputs[argnums[i]] = changing[i];
      }
      return reference(inputs);
    };
    return mx::vjp(f, wanted, cotangents).second;
  }
};

// What a product's task needs.
struct Plan {
  std::vector<PackedPtr> matrices;
  std::vector<int> bias; // input number of each matrix's bias, or 0
  std::optional<Gate> gate;
  bool int8 = false;

  Reads reads() const {
    Reads all;
    for (const auto& m : matrices)
      all.push_back({m->codes(0), m->bytes()});
    return all;
  }

  void run(const std::vector<View>& inputs, const std::vector<void*>& outputs)
      const {
    const auto& x = inputs[0];
    int cols = matrices[0]->cols();
    int rows = static_cast<int>(x.size / cols);
    std::vector<std::byte> space;
    std::vector<std::vector<std::byte>> bias_space(matrices.size());
    std::vector<Segment> segments(outputs.size());
    for (std::size_t i = 0; i < outputs.size(); i++) {
      auto& s = segments[i];
      s.matrix = matrices[i].get();
      if (gate) {
        s.up = matrices[1].get();
        s.gate = *gate;
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

// Products of one x: several matrices, or a gate and its up matrix.
class Product : public WithReference {
 public:
  Product(mx::Stream stream, Plan plan)
      : WithReference(stream),
        plan_(std::make_shared<const Plan>(std::move(plan))) {}

  const char* name() const override {
    return plan_->gate ? "GatedLinear" : "Linear";
  }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    dispatch(
        stream(),
        [plan = plan_, in = views(inputs), out = allocate_all(outputs)] {
          plan->run(in, out);
        },
        plan_->reads());
  }

  Arrays reference(const Arrays& inputs) override {
    const auto& m = plan_->matrices;
    if (plan_->gate) {
      return {
          reference::activated(unary(*plan_->gate), plain(inputs[0], m[0])) *
          plain(inputs[0], m[1])};
    }
    Arrays outputs;
    for (std::size_t i = 0; i < m.size(); i++) {
      auto y = plain(inputs[0], m[i]);
      int bias = plan_->bias[i];
      outputs.push_back(
          bias == 0 ? y : y + mx::astype(inputs[bias], y.dtype()));
    }
    return outputs;
  }

 private:
  std::shared_ptr<const Plan> plan_;
};

// Inputs: x [T, 1 or k, cols], ids [T, k], and the bias [experts, rows] if any.
class GatherProduct : public WithReference {
 public:
  GatherProduct(mx::Stream stream, PackedPtr matrix, bool int8)
      : WithReference(stream), matrix_(std::move(matrix)), int8_(int8) {}

  const char* name() const override {
    return "GatherLinear";
  }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    dispatch(
        stream(),
        [w = matrix_,
         int8 = int8_,
         in = views(inputs),
         out = allocate_all(outputs)] { run(*w, int8, in, out[0]); });
  }

  Arrays reference(const Arrays& inputs) override {
    const auto& x = inputs[0];
    auto ids = mx::stop_gradient(inputs[1]);
    auto all = mx::reshape(
        unpack(matrix_, x.dtype()),
        {matrix_->experts(), matrix_->rows(), matrix_->cols()});
    auto w = mx::take(all, ids, 0); // [T, k, rows, cols]
    auto y = mx::squeeze(mx::matmul(w, mx::expand_dims(x, -1)), -1);
    if (inputs.size() == 3) {
      y = y + mx::astype(mx::take(inputs[2], ids, 0), y.dtype());
    }
    return {y};
  }

 private:
  // One segment for each expert that was chosen; ids outside the experts give
  // zeros.
  static void run(
      const Packed& w,
      bool int8,
      const std::vector<View>& in,
      void* out) {
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

  PackedPtr matrix_;
  bool int8_;
};

// Rows of a matrix; without ids all of them. No gradient: ids are integers.
class Rows : public mx::Primitive, public Recordable {
 public:
  Rows(mx::Stream stream, PackedPtr matrix)
      : mx::Primitive(stream), matrix_(std::move(matrix)) {}

  const char* name() const override {
    return "Rows";
  }

  void eval_gpu(const Arrays&, Arrays&) override {
    fail(ErrorKind::internal, name(), "expected the CPU device, found a GPU");
  }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    auto count = static_cast<int>(outputs[0].size() / matrix_->cols());
    auto type = operand_type(outputs[0].dtype());
    dispatch(
        stream(),
        [w = matrix_,
         in = views(inputs),
         out = allocate_all(outputs),
         type,
         count] { run(*w, in, out[0], type, count); });
  }

 private:
  // Ids outside the matrix give zeros.
  static void run(
      const Packed& w,
      const std::vector<View>& in,
      void* out,
      Float type,
      int count) {
    std::vector<std::byte> space;
    const std::int32_t* ids = nullptr;
    if (!in.empty()) {
      ids = static_cast<const std::int32_t*>(in[0].elements(space));
    }
    auto row = [&](int i) {
      thread_local std::vector<float> values;
      values.assign(w.cols(), 0.0f);
      int index = ids ? ids[i] : i;
      if (index >= 0 && index < w.rows() * w.experts()) {
        w.dequantize(index, values);
      }
      from_floats(values, type, out, std::size_t(i) * w.cols());
    };
    int together = std::max(1, 8192 / w.cols());
    parallel_for((count + together - 1) / together, [&](int block) {
      for (int i = block * together;
           i < std::min(count, (block + 1) * together);
           i++) {
        row(i);
      }
    });
  }

  PackedPtr matrix_;
};

void check_input(const mx::array& x, const Packed& w, const char* where) {
  if (!is_value_type(x.dtype())) {
    fail(
        ErrorKind::internal, where, "expected activations in f32, f16 or bf16");
  }
  if (x.ndim() == 0 || x.shape(-1) != w.cols()) {
    fail(
        ErrorKind::internal,
        where,
        "expected {} inputs, found {}",
        w.cols(),
        x.ndim() == 0 ? 0 : x.shape(-1));
  }
}

void check_bias(
    const mx::array& bias,
    const mx::Shape& shape,
    const char* where) {
  if (!is_value_type(bias.dtype()) || bias.shape() != shape) {
    fail(
        ErrorKind::internal,
        where,
        "expected a bias of {} outputs",
        shape.back());
  }
}

mx::array index_array(const mx::array& ids, const char* where) {
  if (!mx::issubdtype(ids.dtype(), mx::integer)) {
    fail(ErrorKind::internal, where, "expected integer ids");
  }
  // Unsigned 32-bit ids read as signed: those that change are out of range
  // anyway.
  return ids.dtype() == mx::int32 || ids.dtype() == mx::uint32
      ? ids
      : mx::astype(ids, mx::int32);
}

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
  auto stream = cpu_stream();
  return mx::array::make_arrays(
      std::move(shapes),
      std::vector<mx::Dtype>(w.size(), x.dtype()),
      std::make_shared<Product>(stream, std::move(plan)),
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
    Gate act,
    Activations mode) {
  Plan plan;
  plan.int8 = mode == Activations::int8;
  plan.gate = act;
  plan.matrices = {packed(gate), packed(up)};
  for (const auto& m : plan.matrices) {
    check_input(x, *m, "gated_linear");
    MLXLM_CHECK(m->experts() == 1, "gated_linear takes no stacked experts");
  }
  MLXLM_CHECK(gate->rows() == up->rows(), "gate and up differ in outputs");
  auto shape = with_last(x.shape(), gate->rows());
  auto stream = cpu_stream();
  return mx::array(
      std::move(shape),
      x.dtype(),
      std::make_shared<Product>(stream, std::move(plan)),
      {x});
}

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
  auto stream = cpu_stream();
  return mx::array(
      std::move(shape),
      x.dtype(),
      std::make_shared<GatherProduct>(
          stream, std::move(matrix), mode == Activations::int8),
      std::move(inputs));
}

mx::array rows(const MatrixPtr& w, const mx::array& ids, mx::Dtype type) {
  MLXLM_CHECK(is_value_type(type), "rows are f32, f16 or bf16");
  auto shape = ids.shape();
  shape.push_back(w->cols());
  return mx::array(
      std::move(shape),
      type,
      std::make_shared<Rows>(cpu_stream(), packed(w)),
      {index_array(ids, "rows")});
}

mx::array unpack(const MatrixPtr& w, mx::Dtype type) {
  MLXLM_CHECK(is_value_type(type), "matrices unpack to f32, f16 or bf16");
  mx::Shape shape = {w->rows(), w->cols()};
  if (w->experts() > 1) {
    shape.insert(shape.begin(), w->experts());
  }
  return mx::array(
      std::move(shape),
      type,
      std::make_shared<Rows>(cpu_stream(), packed(w)),
      Arrays{});
}

} // namespace mlxlm::kernels

// Rows of a matrix as values, and the whole of it.
#include <mlx/ops.h>
#include <mlx/primitives.h>

#include "core/check.h"
#include "runtime/kernels/linear.h"
#include "runtime/kernels/linear/operands.h"
#include "runtime/kernels/tape.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {
namespace {

mx::Stream cpu_stream() {
  return mx::default_stream(mx::Device(mx::Device::cpu));
}

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
      const std::vector<InputView>& in,
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

} // namespace

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

// The kernel targets of linear layers without MLX and without a test library,
// so that they can be cross-compiled and run in an emulator: every format on
// every target, against double precision, one row against many, 8-bit and
// 16-bit activations. Prints a line a target; exit 1 when one is wrong.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "mlxlm/error.h"
#include "runtime/kernels/linear/multiply.h"
#include "runtime/kernels/linear/sample.h"
#include "runtime/kernels/linear/target.h"

namespace mlxlm::kernels {
namespace {

constexpr int rows = 40, most = 15; // tiles of 8, 4, 2 and 1

// A plain row's codes all at their largest: sums must not wrap. Outputs nearly
// cancel, so errors relative to them are larger.
class LargestRows final : public RowSource {
 public:
  LargestRows(const MatrixSpec& spec, int cols)
      : spec_(spec), random_(spec, rows, cols, 5) {}
  void row(int index, Row out) const override {
    random_.row(index, out);
    if (spec_.codes == Codes::unsigned_int)
      std::memset(out.codes.data(), (1 << spec_.bits) - 1, out.codes.size());
  }

 private:
  MatrixSpec spec_;
  SampleRows random_;
};

std::vector<float> product(
    const Packed& w,
    const std::vector<float>& x,
    int count,
    bool int8) {
  std::vector<float> y(std::size_t(count) * rows);
  Segment segment{.matrix = &w, .count = count, .out = y.data()};
  multiply({x.data(), Float::f32}, count, w.cols(), int8, {&segment, 1});
  return y;
}

// The largest error relative to its row's largest value.
double error(
    const Packed& w,
    const std::vector<float>& x,
    const std::vector<float>& y) {
  int cols = w.cols();
  double worst = 0;
  std::vector<std::vector<float>> weights(rows, std::vector<float>(cols));
  for (int r = 0; r < rows; r++)
    w.dequantize(r, weights[r]);
  for (int m = 0; m < most; m++) {
    double largest = 0, off = 0;
    for (int r = 0; r < rows; r++) {
      double sum = 0;
      for (int k = 0; k < cols; k++)
        sum += double(weights[r][k]) * x[m * cols + k];
      largest = std::max(largest, std::abs(sum));
      off = std::max(off, std::abs(sum - y[m * rows + r]));
    }
    worst = std::max(worst, off / largest);
  }
  return worst;
}

int columns(const MatrixSpec& spec) {
  bool k = spec.params == Params::k_affine || spec.params == Params::k_scale ||
      spec.group == 256;
  return k ? 768 : spec.group == 16 ? 592 : 640;
}

// Wrong cases of one format on the current target.
int check(
    const Format& format,
    const RowSource& source,
    const char* values,
    double exact) {
  const auto& spec = format.spec;
  int cols = columns(spec), wrong = 0;
  auto matrix = pack(spec, rows, cols, 1, source, format.name);
  const auto& w = dynamic_cast<const Packed&>(*matrix);
  auto x = sample_values(std::size_t(most) * cols, 3);
  for (bool int8 : {false, true}) {
    auto y = product(w, x, most, int8);
    double limit = int8 && !multiplies_floats(w) ? 2e-2 : exact;
    auto off = error(w, x, y);
    if (!(off < limit)) {
      std::printf(
          "FAIL %s %s %s int8=%d: error %g\n",
          target().name,
          format.name.c_str(),
          values,
          int8,
          off);
      wrong++;
    }
    for (int count : {1, 2, 3, 6, 9}) {
      std::vector<float> last(x.end() - std::size_t(count) * cols, x.end());
      auto part = product(w, last, count, int8);
      if (!std::equal(part.begin(), part.end(), y.end() - count * rows)) {
        std::printf(
            "FAIL %s %s %s int8=%d: %d rows differ from %d\n",
            target().name,
            format.name.c_str(),
            values,
            int8,
            count,
            most);
        wrong++;
      }
    }
  }
  return wrong;
}

int run() {
  int wrong = 0;
  for (const auto& name : target_names()) {
    set_target(name);
    int before = wrong;
    for (const auto& format : all_formats()) {
      int cols = columns(format.spec);
      wrong +=
          check(format, SampleRows(format.spec, rows, cols, 7), "random", 1e-4);
      wrong += check(format, LargestRows(format.spec, cols), "largest", 1e-3);
    }
    std::printf(
        "%s %s %zu formats\n",
        wrong == before ? "PASS" : "FAIL",
        name.c_str(),
        all_formats().size());
  }
  return wrong;
}

} // namespace
} // namespace mlxlm::kernels

int main() {
  return mlxlm::kernels::run() == 0 ? 0 : 1;
}

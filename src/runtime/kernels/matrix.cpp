// Checks a matrix's description and packs it, panels in parallel.
#include "runtime/kernels/matrix.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>

#include "core/check.h"
#include "runtime/kernels/linear/packed.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {
namespace {

bool is_float(Codes codes) {
  return codes == Codes::f32 || codes == Codes::f16 || codes == Codes::bf16;
}

bool scale_only(Params params) {
  return params == Params::f16_scale || params == Params::e8m0_scale ||
      params == Params::e4m3_scale || params == Params::k_scale ||
      params == Params::f32_scale;
}

void check_spec(const MatrixSpec& s, int cols, std::string_view where) {
  if (is_float(s.codes) != s.dense()) {
    fail(
        ErrorKind::weights,
        where,
        "expected parameters exactly for integer codes");
  }
  if (s.dense()) {
    return;
  }
  int bits = s.codes == Codes::table ? 4 : s.codes == Codes::e4m3 ? 8 : s.bits;
  if (s.bits != bits || bits < 1 || bits > 8) {
    fail(
        ErrorKind::weights,
        where,
        "expected codes of 1 to 8 bits, found {}",
        s.bits);
  }
  if (s.codes != Codes::unsigned_int && !scale_only(s.params)) {
    fail(
        ErrorKind::weights,
        where,
        "expected scales without biases for float codes");
  }
  bool power =
      s.group >= 16 && s.group <= 256 && (s.group & (s.group - 1)) == 0;
  if (!power) {
    fail(
        ErrorKind::weights,
        where,
        "expected a group size of 16, 32, 64, 128 or 256, found {}",
        s.group);
  }
  bool k = s.params == Params::k_affine || s.params == Params::k_scale;
  int multiple = k ? 256 : s.group;
  if (cols % multiple != 0) {
    fail(
        ErrorKind::weights,
        where,
        "expected a multiple of {} inputs, found {}",
        multiple,
        cols);
  }
  if (s.zero < -255 || s.zero > 255) {
    fail(
        ErrorKind::weights,
        where,
        "expected a zero of one byte, found {}",
        s.zero);
  }
}

void check_shape(int rows, int cols, int experts, std::string_view where) {
  auto most = std::numeric_limits<int>::max() - panel_rows;
  bool fits = rows > 0 && cols > 0 && experts > 0 && cols <= most &&
      std::int64_t(rows) * experts <= most &&
      std::int64_t(rows) * experts <= (std::int64_t{1} << 42) / cols;
  if (!fits) {
    fail(
        ErrorKind::weights,
        where,
        "expected a matrix, found [{}, {}, {}]",
        experts,
        rows,
        cols);
  }
}

// The rows of one panel in their plain form, missing ones zero.
struct PanelRows {
  std::vector<std::uint8_t> codes;
  std::vector<std::uint32_t> words;
  std::vector<std::byte> params;
};

// Reads the rows of one panel and packs them.
void pack_panel(Packed& matrix, std::size_t panel, const RowSource& source) {
  thread_local PanelRows in;
  auto param_bytes = matrix.row_params();
  auto expert = static_cast<int>(panel / matrix.panels());
  int within = static_cast<int>(panel % matrix.panels()) * panel_rows;
  int rows = std::min(panel_rows, matrix.rows() - within);
  int first = expert * matrix.rows() + within;
  in.params.resize(panel_rows * param_bytes);
  std::fill(
      in.params.begin() + std::ptrdiff_t(rows * param_bytes),
      in.params.end(),
      std::byte{0});
  auto params = [&](int r) {
    return std::span(in.params).subspan(r * param_bytes, param_bytes);
  };
  const auto& spec = matrix.spec();
  if (spec.bits == 4) {
    auto width = matrix.row_words();
    in.words.assign(panel_rows * width, 0);
    auto words = [&](int r) {
      return std::span(in.words).subspan(r * width, matrix.cols() / 8);
    };
    if (source.words(first, words(0), params(0))) {
      for (int r = 1; r < rows; r++) {
        source.words(first + r, words(r), params(r));
      }
      matrix.fill_words(panel, in.words.data(), in.params.data());
      return;
    }
  }
  auto code_bytes = matrix.row_code_bytes();
  in.codes.resize(panel_rows * code_bytes);
  std::fill(
      in.codes.begin() + std::ptrdiff_t(rows * code_bytes), in.codes.end(), 0);
  for (int r = 0; r < rows; r++) {
    source.row(
        first + r,
        {std::span(in.codes).subspan(r * code_bytes, code_bytes), params(r)});
  }
  matrix.fill(panel, in.codes.data(), in.params.data());
}

} // namespace

MatrixPtr pack(
    const MatrixSpec& spec,
    int rows,
    int cols,
    int experts,
    const RowSource& source,
    std::string_view where) {
  check_shape(rows, cols, experts, where);
  check_spec(spec, cols, where);
  auto matrix = std::make_shared<Packed>(spec, rows, cols, experts);
  // A few megabytes at a time, so that the source can let go of what has been
  // read. Each thread fills about a huge page alone: where two touch one first,
  // both clear it.
  auto threads = std::size_t(thread_count());
  auto run =
      std::max<std::size_t>(1, (std::size_t{2} << 20) / matrix->panel_bytes());
  auto batch = 2 * threads * run;
  std::mutex mutex;
  std::exception_ptr error;
  for (std::size_t begin = 0; begin < matrix->panel_count(); begin += batch) {
    auto end = std::min(begin + batch, matrix->panel_count());
    auto each = std::min(run, (end - begin + threads - 1) / threads);
    auto pieces = (end - begin + each - 1) / each;
    parallel_for(static_cast<int>(pieces), [&](int i) {
      try {
        auto first = begin + std::size_t(i) * each;
        for (auto p = first; p < std::min(first + each, end); p++) {
          pack_panel(*matrix, p, source);
        }
      } catch (...) {
        std::lock_guard lock(mutex);
        error = std::current_exception();
      }
    });
    if (error) {
      std::rethrow_exception(error);
    }
    auto panels = std::size_t(matrix->panels());
    source.done(static_cast<int>(
        end / panels * rows +
        std::min<std::size_t>(end % panels * panel_rows, rows)));
  }
  return matrix;
}

} // namespace mlxlm::kernels

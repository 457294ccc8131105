// What the primitives of mixers.h share: one job a segment and head, or block
// of channels, over rows of any float type.
#pragma once

#include <cmath>
#include <vector>

#include "core/check.h"
#include "runtime/kernels/mixers.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

inline constexpr int time_block =
    64; // tokens whose inputs are prepared at once

[[noreturn]] inline void no_gradient(const char* name) {
  fail(
      ErrorKind::internal,
      name,
      "expected a pass with states as arrays, found one to differentiate");
}

inline void expect_together(bool good, const char* name) {
  if (!good)
    fail(
        ErrorKind::internal,
        name,
        "expected arrays that belong together on the CPU, found others");
}

inline bool is_any_float(const mx::array& x) {
  return float_type(x.dtype()).has_value();
}

inline bool is_f32(const mx::array& x, const mx::Shape& shape) {
  return x.shape() == shape && x.dtype() == mx::float32;
}

// Rows of an array of any float type and strides as f32.
class FloatRows {
 public:
  explicit FloatRows(const mx::array& x)
      : view_(x), type_(*float_type(x.dtype())) {}

  // Values [first, first + count) of row `index`.
  void read(std::size_t index, int first, int count, float* out) const {
    thread_local std::vector<std::byte> apart;
    apart.resize(view_.row_bytes());
    auto* row = view_.row(index, apart.data());
    to_floats(type_, row + first * size(), count, 0, out);
  }
  float value(std::size_t index, int at) const {
    float out;
    read(index, at, 1, &out);
    return out;
  }
  FloatType type() const {
    return type_;
  }
  std::size_t size() const { // of a value
    return size_of(type_);
  }

 private:
  RowView view_;
  FloatType type_;
};

inline float softplus(float x) {
  return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x)));
}

// body(segment, part) for `parts` of each segment; `cost`: values touched by a
// token in all parts.
template <typename Body>
void for_parts(
    const StatePlaces& places,
    int parts,
    std::size_t cost,
    const Body& body) {
  constexpr std::size_t worth_a_thread = 32768;
  int count = static_cast<int>(places.segments.size()) * parts;
  std::size_t tokens = 0;
  for (auto& s : places.segments)
    tokens += s.count;
  auto run = [&](int i) { body(places.segments[i / parts], i % parts); };
  if (tokens * cost >= 2 * worth_a_thread) return parallel_for(count, run);
  for (int i = 0; i < count; ++i)
    run(i);
}

} // namespace mlxlm::kernels

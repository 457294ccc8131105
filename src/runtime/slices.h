// A part of an array along one axis.
#pragma once

#include <mlx/ops.h>

namespace mlxlm {

namespace mx = mlx::core;

// x[..., begin:end, ...]; an axis below 0 counts from the last.
inline mx::array slice_axis(const mx::array& x, int axis, int begin, int end) {
  if (axis < 0) axis += static_cast<int>(x.ndim());
  auto start = mx::Shape(x.ndim(), 0);
  auto stop = x.shape();
  start[axis] = begin;
  stop[axis] = end;
  return mx::slice(x, start, stop);
}

} // namespace mlxlm

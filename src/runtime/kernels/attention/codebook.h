// Lloyd-Max codebooks: the best scalar quantizer for one coordinate of a
// uniformly random unit vector, which is what a rotated key or value is.
#pragma once

#include <vector>

namespace mlxlm::kernels {

// 2^bits centroids, ascending and symmetric, for the density
// C (1 - x^2)^((dim - 3) / 2) on [-1, 1]; dim 0: for N(0, 1). bits 1 to 4.
std::vector<float> lloyd_max(int dim, int bits);

// Midpoints between neighbouring centroids: a value's code is the number of
// midpoints below it.
std::vector<float> midpoints(const std::vector<float>& centroids);

} // namespace mlxlm::kernels

// A random rotation of rows of any length: random signs, then a normalised
// Walsh-Hadamard transform over blocks of descending powers of two
// (96 = 64 + 32). What follows it sees coordinates that look alike whatever
// the row was.
#pragma once

#include <cstdint>
#include <vector>

namespace mlxlm::kernels {

class Rotation {
 public:
  // Signs from the POSIX drand48 stream of `seed`, as the first engines that
  // compressed so chose them.
  Rotation(int dim, std::uint32_t seed);
  explicit Rotation(std::vector<float> signs); // each -1 or 1

  int dim() const {
    return int(signs_.size());
  }
  const std::vector<float>& signs() const {
    return signs_;
  }
  // In place: x = H(signs * x), and back x = signs * H(x).
  void apply(float* x) const;
  void inverse(float* x) const;

 private:
  void transform(float* x) const;

  std::vector<float> signs_;
};

} // namespace mlxlm::kernels

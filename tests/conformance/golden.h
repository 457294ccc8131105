// Reads golden.safetensors files into plain vectors, apart from the product's
// own reader, which is among the things under test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm::conformance {

struct GoldenTensor {
  std::string dtype; // "F32", "BF16", "I32" ...
  std::vector<std::int64_t> shape;
  std::string bytes;

  std::int64_t size() const;
  std::vector<float> floats() const; // F64, F32, F16, BF16 and integers
  std::vector<int> ints() const; // integer types
};

class Golden {
 public:
  explicit Golden(const std::string& path);
  bool has(std::string_view name) const;
  // Throws Error(weights) when absent.
  const GoldenTensor& operator[](std::string_view name) const;
  const std::map<std::string, GoldenTensor, std::less<>>& tensors() const {
    return tensors_;
  }

 private:
  std::string path_;
  std::map<std::string, GoldenTensor, std::less<>> tensors_;
};

// Largest |a - b|; infinity when sizes differ or one side is not finite where
// the other is.
double max_abs(std::span<const float> a, std::span<const float> b);
// Largest magnitude.
double max_abs(std::span<const float> a);
// Index of the largest value, ties to the lower index.
int argmax(std::span<const float> a);

} // namespace mlxlm::conformance

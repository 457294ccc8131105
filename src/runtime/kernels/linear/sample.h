// Random matrices in every format, for tests and benchmarks.
#pragma once

#include <string>
#include <vector>

#include "runtime/kernels/matrix.h"

namespace mlxlm::kernels {

struct Format {
  std::string name;
  MatrixSpec spec;
};
// Every combination of codes and parameters that pack() takes.
std::vector<Format> all_formats();
const MatrixSpec& format(std::string_view name);

// Plain rows of random codes and reasonable parameters.
class SampleRows final : public RowSource {
 public:
  SampleRows(const MatrixSpec& spec, int rows, int cols, unsigned seed);
  void row(int index, Row out) const override;

 private:
  std::size_t code_bytes_;
  std::size_t param_bytes_;
  std::vector<std::uint8_t> codes_;
  std::vector<std::byte> params_;
};

std::vector<float> sample_values(std::size_t count, unsigned seed);

} // namespace mlxlm::kernels

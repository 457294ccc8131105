// The layout behind matrix.h. Sixteen output rows make a panel; a panel is its
// codes, then its parameters, one after the other in memory.
//
// Codes come in units of 32 inputs: eight vectors of 64 bytes, vector v byte 4r
// + j is the code of row r, input 4v + j: the operand of a byte dot product
// with rows as lanes. Codes of less than eight bits are split into planes of
// four, two and one bit; a plane's bytes hold the same position of two, four or
// eight neighbouring vectors. Parameters: each element of the plain form
// sixteen times, row by row. Dense: [input][row] elements, no units.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "runtime/kernels/matrix.h"

namespace mlxlm::kernels {

constexpr int panel_rows = 16;
constexpr int unit_inputs = 32;
constexpr int unit_bytes = unit_inputs * panel_rows; // codes, unpacked

// The elements of one row's parameters: sizes in bytes, repeated every `period`
// inputs.
struct ParamPattern {
  std::vector<int> sizes;
  int period = 1;
};
ParamPattern param_pattern(const MatrixSpec& spec);

class Packed final : public Matrix {
 public:
  Packed(const MatrixSpec& spec, int rows, int cols, int experts);

  const MatrixSpec& spec() const override {
    return spec_;
  }
  int rows() const override {
    return rows_;
  }
  int cols() const override {
    return cols_;
  }
  int experts() const override {
    return experts_;
  }
  std::size_t bytes() const override {
    return panel_stride_ * panel_count();
  }
  void row(int index, Row out) const override;
  void dequantize(int index, std::span<float> out) const override;

  // Of one expert; expert e begins at panel e * panels().
  int panels() const {
    return (rows_ + panel_rows - 1) / panel_rows;
  }
  std::size_t panel_count() const {
    return static_cast<std::size_t>(panels()) * experts_;
  }
  int units() const {
    return (cols_ + unit_inputs - 1) / unit_inputs;
  }
  const std::uint8_t* codes(std::size_t panel) const {
    return data_.get() + panel * panel_stride_;
  }
  const std::uint8_t* params(std::size_t panel) const {
    return codes(panel) + code_bytes_;
  }
  std::size_t row_params() const {
    return row_params_;
  }
  // Bytes of a panel that a product reads.
  std::size_t panel_bytes() const {
    return panel_stride_;
  }
  // Panel `panel` from sixteen plain rows, one after the other in `codes` and
  // `params` (row_code_bytes() and row_params() each); missing ones are zero.
  void fill(
      std::size_t panel,
      const std::uint8_t* codes,
      const std::byte* params);
  // The same from the words of RowSource::words, row_words() each.
  void fill_words(
      std::size_t panel,
      const std::uint32_t* words,
      const std::byte* params);
  std::size_t row_words() const {
    return std::size_t(units()) * 4;
  }
  std::size_t row_code_bytes() const;

 private:
  void fill_params(std::size_t panel, const std::byte* params);

  MatrixSpec spec_;
  ParamPattern pattern_;
  int rows_;
  int cols_;
  int experts_;
  std::size_t row_params_;
  std::size_t code_bytes_; // of a panel
  std::size_t panel_stride_;
  std::shared_ptr<std::uint8_t> data_;
};

int element_bytes(Codes codes);

} // namespace mlxlm::kernels

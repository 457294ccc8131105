// What AWQ and GPTQ share: 32-bit words of codes whose rows are the inputs, and
// a scale and a zero point for each group of inputs and each output.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/codes.h"
#include "weights/format.h"

namespace mlxlm::quant {

// A stored tensor of 32-bit words [experts, K, C] read by columns: what
// libraries write that keep inputs as rows.
class ColumnWords {
 public:
  explicit ColumnWords(RowTensor words);
  int columns() const {
    return columns_;
  }
  int height() const {
    return height_; // K
  }
  // Column `column` of expert `expert`: K words. Valid until the next call on
  // this thread.
  std::span<const std::uint32_t> column(int expert, int column) const;
  // Experts before `expert` have been read.
  void done(int expert) const;

 private:
  RowTensor words_;
  int columns_, height_;
  std::uint64_t id_; // no other object's
};

class ColumnFormat : public WeightFormat {
 public:
  explicit ColumnFormat(const Fields& block);
  std::vector<Rule> rules() const override;
  bool recognises(const ModuleTensors& module) const override;

 protected:
  // The scales of a matrix whose rows, cols and experts are known.
  Scales scales_of(const ModuleTensors& module, EncodedMatrix& matrix) const;
  // Codes of the zero points in the order of their bits, [experts, groups,
  // rows].
  static std::vector<std::uint8_t> zero_codes(
      const ModuleTensors& module,
      EncodedMatrix& matrix,
      int groups,
      int bits);
  // Those codes as zero points.
  static std::vector<std::int16_t> zeros_by_row(
      const std::vector<std::uint8_t>& codes,
      const EncodedMatrix& matrix,
      int groups);

 private:
  int group_; // inputs; not positive: all of them
};

// Throws Error(weights) unless the tensor has this shape and storage is among
// integers of 32 bits.
void check_words(const RowTensor& tensor, const Shape64& shape);

} // namespace mlxlm::quant

// AutoAWQ's GEMM layout: words of eight 4-bit codes of neighbouring outputs in
// the order 0 2 4 6 1 3 5 7, inputs as rows; scale and zero point a group.

#include "core/check.h"
#include "core/strings.h"
#include "quant/columns.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

// Bits by which code i of a word is shifted.
constexpr int shift_of[8] = {0, 16, 4, 20, 8, 24, 12, 28};

class AwqRows final : public GroupedRows {
 public:
  AwqRows(const EncodedMatrix& m, Scales scales, RowTensor words)
      : GroupedRows(m, std::move(scales)),
        rows_(m.rows),
        words_(std::move(words)) {}
  void done(int index) const override {
    words_.done(index / rows_);
  }

 protected:
  void codes(int index, std::span<std::uint8_t> out) const override {
    const int row = index % rows_;
    auto words = words_.column(index / rows_, row / 8);
    for (std::size_t j = 0; j < out.size(); ++j)
      out[j] = static_cast<std::uint8_t>(words[j] >> shift_of[row % 8] & 15);
  }

 private:
  int rows_;
  ColumnWords words_;
};

class Awq final : public ColumnFormat {
 public:
  explicit Awq(const Fields& f) : ColumnFormat(f) {
    const int bits = f.opt("bits", f.opt("w_bit", 4));
    if (bits != 4)
      fail(ErrorKind::config, f.where("bits"), "expected 4, found {}", bits);
    auto version = lower_ascii(f.opt("version", "gemm"));
    if (version != "gemm")
      fail(
          ErrorKind::config,
          f.where("version"),
          "expected \"gemm\", found \"{}\"",
          printable(version));
  }
  std::string_view name() const override {
    return "AWQ";
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight");
    EncodedMatrix m;
    m.set_shape(weight);
    m.rows = static_cast<int>(weight.shape().back()) * 8;
    m.cols = module.in();
    auto shape = weight.shape();
    shape[shape.size() - 2] = module.in();
    check_words(weight, shape);
    auto scales = scales_of(module, m);
    scales.zeros = zeros_of(module, m, scales);
    set_grouping(m, 4, scales, "AWQ");
    m.source = std::make_shared<AwqRows>(m, std::move(scales), weight);
    return m;
  }

 private:
  static std::vector<std::int16_t> zeros_of(
      const ModuleTensors& module,
      EncodedMatrix& m,
      const Scales& scales) {
    if (!module.has("qzeros"))
      return std::vector<std::int16_t>(scales.scales.size(), 8);
    auto stored = zero_codes(module, m, scales.groups, 4);
    auto codes = stored;
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] =
          stored[i / 8 * 8 + static_cast<std::size_t>(shift_of[i % 8]) / 4];
    return zeros_by_row(codes, m, scales.groups);
  }
};

} // namespace

WeightFormatPtr awq_format(const Fields& block) {
  return std::make_shared<Awq>(block);
}

} // namespace mlxlm::quant

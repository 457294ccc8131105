// BitNet's ternary matrices: four rows to a byte, row k * rows / 4 + i in bits
// 2 k and 2 k + 1 of packed row i, less one; one scale a matrix.

#include <cmath>

#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"
#include "quant/codes.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

class TernaryRows final : public GroupedRows {
 public:
  TernaryRows(const EncodedMatrix& m, Scales scales, RowTensor packed)
      : GroupedRows(m, std::move(scales)),
        quarter_(m.rows / 4),
        packed_(std::move(packed)) {}
  void done(int index) const override {
    packed_.drop(0, std::int64_t{index / (4 * quarter_)} * quarter_);
  }

 protected:
  void codes(int index, std::span<std::uint8_t> out) const override {
    thread_local std::vector<std::byte> scratch;
    scratch.resize(packed_.row_bytes());
    const int expert = index / (4 * quarter_), row = index % (4 * quarter_);
    auto bytes =
        packed_.row(std::int64_t{expert} * quarter_ + row % quarter_, scratch);
    for (std::size_t j = 0; j < out.size(); ++j)
      out[j] = std::to_integer<std::uint8_t>(
          bytes[j] >> (2 * (row / quarter_)) & std::byte{3});
  }

 private:
  int quarter_;
  RowTensor packed_;
};

class Bitnet final : public WeightFormat {
 public:
  explicit Bitnet(const Fields& f)
      : divides_(f.opt("linear_class", "") != "autobitlinear") {}
  std::string_view name() const override {
    return "BitNet";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    return weight != nullptr && weight->storage() == Storage::u8 &&
        module.has("weight_scale");
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight"), stored = module.take("weight_scale");
    EncodedMatrix m;
    m.set_shape(weight);
    m.rows *= 4;
    m.cols = static_cast<int>(weight.shape().back());
    auto values = read_floats(stored);
    if (values.size() != static_cast<std::size_t>(m.experts))
      fail(
          ErrorKind::weights,
          stored.where(),
          "expected one scale, found [{}]",
          fmt::join(stored.shape(), ", "));
    Scales scales;
    scales.type = divides_ ? Storage::f32 : stored.storage();
    for (float value : values) {
      const float scale = divides_ ? 1 / value : value;
      if (!std::isfinite(scale))
        fail(
            ErrorKind::weights,
            stored.where(),
            "expected a scale that divides, found {}",
            value);
      scales.scales.insert(
          scales.scales.end(), static_cast<std::size_t>(m.rows), scale);
    }
    scales.zeros.assign(scales.scales.size(), 1);
    set_grouping(m, 2, scales, "BitNet");
    m.label = "BitNet ternary";
    m.source = std::make_shared<TernaryRows>(m, std::move(scales), weight);
    return m;
  }

 private:
  bool divides_; // bitlinear; autobitlinear multiplies
};

} // namespace

WeightFormatPtr bitnet_format(const Fields& block) {
  return std::make_shared<Bitnet>(block);
}

} // namespace mlxlm::quant

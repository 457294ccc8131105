// GPTQ (AutoGPTQ, GPTQModel): codes of 2, 3, 4 or 8 bits, one stream along the
// inputs for each output, outputs as columns; scale and zero point a group.
// `g_idx` says each input's group: with act-order they are not neighbours.

#include <numeric>

#include "core/check.h"
#include "core/strings.h"
#include "quant/columns.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

class GptqRows final : public GroupedRows {
 public:
  GptqRows(const EncodedMatrix& m, Scales scales, RowTensor words)
      : GroupedRows(m, std::move(scales)),
        rows_(m.rows),
        bits_(m.spec.bits),
        order_(m.order),
        words_(std::move(words)) {}
  void done(int index) const override {
    words_.done(index / rows_);
  }

 protected:
  void codes(int index, std::span<std::uint8_t> out) const override {
    const int expert = index / rows_;
    auto words = words_.column(expert, index % rows_);
    if (order_.empty()) return unpack_bits(std::as_bytes(words), bits_, out);
    thread_local std::vector<std::uint8_t> stored;
    stored.resize(out.size());
    unpack_bits(std::as_bytes(words), bits_, stored);
    const auto* order =
        order_.data() + static_cast<std::size_t>(expert) * out.size();
    for (std::size_t j = 0; j < out.size(); ++j)
      out[j] = stored[static_cast<std::size_t>(order[j])];
  }

 private:
  int rows_, bits_;
  std::vector<int> order_;
  ColumnWords words_;
};

class Gptq final : public ColumnFormat {
 public:
  explicit Gptq(const Fields& f) : ColumnFormat(f), bits_(f.req<int>("bits")) {
    if (bits_ != 2 && bits_ != 3 && bits_ != 4 && bits_ != 8)
      fail(
          ErrorKind::config,
          f.where("bits"),
          "expected 2, 3, 4 or 8, found {}",
          bits_);
    // The first version stores zero points less one.
    auto version = lower_ascii(f.opt("checkpoint_format", "gptq"));
    if (version != "gptq" && version != "gptq_v2")
      fail(
          ErrorKind::config,
          f.where("checkpoint_format"),
          "expected \"gptq\" or \"gptq_v2\", found \"{}\"",
          printable(version));
    less_one_ = version == "gptq";
  }
  std::string_view name() const override {
    return "GPTQ";
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight");
    EncodedMatrix m;
    m.set_shape(weight);
    m.rows = static_cast<int>(weight.shape().back());
    m.cols = module.in();
    auto shape = weight.shape();
    if (m.cols * bits_ % 32 != 0)
      fail(
          ErrorKind::weights,
          m.where,
          "expected a multiple of {} inputs, found {}",
          32 / std::gcd(32, bits_),
          m.cols);
    shape[shape.size() - 2] = m.cols * bits_ / 32;
    check_words(weight, shape);
    auto scales = scales_of(module, m);
    scales.zeros = zeros_of(module, m, scales);
    if (module.has("g_idx"))
      m.order = group_order(module.take("g_idx"), m, scales.groups);
    set_grouping(m, bits_, scales, "GPTQ");
    m.source = std::make_shared<GptqRows>(m, std::move(scales), weight);
    return m;
  }

 private:
  std::vector<std::int16_t> zeros_of(
      const ModuleTensors& module,
      EncodedMatrix& m,
      const Scales& scales) const {
    auto codes = zero_codes(module, m, scales.groups, bits_);
    auto zeros = zeros_by_row(codes, m, scales.groups);
    if (less_one_)
      for (auto& zero : zeros)
        ++zero;
    return zeros;
  }

  int bits_;
  bool less_one_ = true;
};

} // namespace

WeightFormatPtr gptq_format(const Fields& block) {
  return std::make_shared<Gptq>(block);
}

} // namespace mlxlm::quant

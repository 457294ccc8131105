// compressed-tensors' integer layouts: `pack-quantized` (codes in 32-bit words,
// as many as fit whole) and `int-quantized` (I8); a scale, perhaps a zero
// point, a group or a row. Its float layouts are fp4.cpp's and fp8.cpp's.

#include <algorithm>
#include <cstring>

#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"
#include "quant/codes.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

class StoredRows : public GroupedRows {
 public:
  StoredRows(const EncodedMatrix& m, Scales scales, RowTensor stored)
      : GroupedRows(m, std::move(scales)),
        bits_(m.spec.bits),
        order_(m.order),
        stored_(std::move(stored)) {}
  void done(int index) const override {
    stored_.drop(0, index);
  }

 protected:
  void codes(int index, std::span<std::uint8_t> out) const override {
    thread_local std::vector<std::byte> scratch;
    thread_local std::vector<std::uint8_t> plain;
    scratch.resize(stored_.row_bytes());
    plain.resize(out.size());
    auto bytes = stored_.row(index, scratch);
    auto& to = plain;
    if (stored_.storage() == Storage::i8) {
      for (std::size_t j = 0; j < to.size(); ++j)
        to[j] = std::to_integer<std::uint8_t>(bytes[j]) ^ 0x80;
    } else {
      unpack_words(bytes, to);
    }
    for (std::size_t j = 0; j < out.size(); ++j)
      out[j] = order_.empty() ? to[j] : to[static_cast<std::size_t>(order_[j])];
  }

 private:
  // A word holds 32 / bits codes; bits left over are unused.
  void unpack_words(
      std::span<const std::byte> bytes,
      std::vector<std::uint8_t>& to) const {
    const auto per_word = static_cast<std::size_t>(32 / bits_);
    const auto mask = (1u << bits_) - 1;
    for (std::size_t j = 0; j < to.size(); ++j) {
      std::uint32_t word;
      std::memcpy(&word, bytes.data() + j / per_word * 4, 4);
      to[j] = static_cast<std::uint8_t>(
          word >> (j % per_word * static_cast<std::size_t>(bits_)) & mask);
    }
  }

  int bits_;
  std::vector<int> order_;
  RowTensor stored_;
};

class Compressed final : public WeightFormat {
 public:
  std::string_view name() const override {
    return "compressed-tensors";
  }
  std::vector<Rule> rules() const override {
    return {
        rename("*.weight_packed", "*.weight"),
        drop("*.weight_shape"),
        drop("*.input_zero_point"),
        drop("*.output_scale")};
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    return weight != nullptr && module.has("weight_scale") &&
        (weight->storage() == Storage::i32 || weight->storage() == Storage::i8);
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight");
    EncodedMatrix m;
    m.set_shape(weight);
    m.cols = module.in();
    const int bits = bits_of(weight, m.cols);
    auto scales = scales_of(module, m, bits);
    m.order = order_of(module, m, scales.groups);
    set_grouping(m, bits, scales, "int");
    m.source = std::make_shared<StoredRows>(m, std::move(scales), weight);
    return m;
  }

 private:
  static int bits_of(const RowTensor& weight, int cols) {
    const auto last = weight.shape().back();
    if (weight.storage() == Storage::i8 && last == cols) return 8;
    if (weight.storage() == Storage::i32)
      for (int bits : {4, 8, 2, 3, 5, 6})
        if ((cols + 32 / bits - 1) / (32 / bits) == last) return bits;
    fail(
        ErrorKind::weights,
        weight.where(),
        "expected packed codes of {} inputs, found [{}] of {}",
        cols,
        fmt::join(weight.shape(), ", "),
        info(weight.storage()).name);
  }

  // [rows, groups], [rows, 1] or [1].
  static Scales scales_of(
      const ModuleTensors& module,
      EncodedMatrix& m,
      int bits) {
    auto stored = module.take("weight_scale");
    const auto rows = std::int64_t{m.experts} * m.rows;
    Scales out;
    out.type = stored.storage();
    out.scales = read_floats(stored);
    if (stored.elements() == m.experts) {
      auto one = std::move(out.scales);
      for (float scale : one)
        out.scales.insert(
            out.scales.end(), static_cast<std::size_t>(m.rows), scale);
    } else if (stored.rows() != rows && stored.elements() != rows) {
      fail(
          ErrorKind::weights,
          stored.where(),
          "expected scales of {} rows, found [{}]",
          rows,
          fmt::join(stored.shape(), ", "));
    } else {
      out.groups = static_cast<int>(stored.elements() / rows);
    }
    m.stored_bytes += stored.bytes();
    out.zeros.assign(
        out.scales.size(), static_cast<std::int16_t>(1 << (bits - 1)));
    if (module.has("weight_zero_point")) add_zeros(module, m, bits, out);
    return out;
  }

  // Signed, or packed like the codes but along the rows.
  static void add_zeros(
      const ModuleTensors& module,
      EncodedMatrix& m,
      int bits,
      Scales& scales) {
    auto stored = module.take("weight_zero_point");
    m.stored_bytes += stored.bytes();
    const auto groups = static_cast<std::size_t>(scales.groups);
    const auto half = 1 << (bits - 1);
    auto values = read_integers(stored);
    if (stored.storage() != Storage::i32) {
      if (values.size() != scales.zeros.size())
        refuse(stored, scales.zeros.size());
      for (std::size_t i = 0; i < values.size(); ++i)
        scales.zeros[i] = static_cast<std::int16_t>(values[i] + half);
      return;
    }
    const auto per_word = static_cast<std::size_t>(32 / bits);
    const auto rows = static_cast<std::size_t>(m.rows);
    const auto words = (rows + per_word - 1) / per_word; // of one expert
    if (values.size() != static_cast<std::size_t>(m.experts) * words * groups)
      refuse(stored, scales.zeros.size());
    for (std::size_t i = 0; i < scales.zeros.size(); ++i) {
      const auto expert = i / (rows * groups), row = i / groups % rows;
      const auto word = static_cast<std::uint32_t>(
          values[(expert * words + row / per_word) * groups + i % groups]);
      scales.zeros[i] = static_cast<std::int16_t>(
          word >> (row % per_word * static_cast<std::size_t>(bits)) &
          ((1u << bits) - 1));
    }
  }

  [[noreturn]] static void refuse(const RowTensor& zeros, std::size_t count) {
    fail(
        ErrorKind::weights,
        zeros.where(),
        "expected {} zero points, found [{}] of {}",
        count,
        fmt::join(zeros.shape(), ", "),
        info(zeros.storage()).name);
  }

  static std::vector<int> order_of(
      const ModuleTensors& module,
      const EncodedMatrix& m,
      int groups) {
    if (!module.has("weight_g_idx")) return {};
    return group_order(module.take("weight_g_idx"), m, groups);
  }
};

} // namespace

WeightFormatPtr compressed_format() {
  return std::make_shared<Compressed>();
}

} // namespace mlxlm::quant

#include "quant/columns.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "checkpoint/values.h"
#include "core/check.h"

namespace mlxlm::quant {
namespace {

// Words of this many neighbouring columns are fetched at a time: a panel of the
// kernels takes sixteen rows one after the other.
constexpr int block_columns = 16;

// All values of a small tensor of words [.., n], as unsigned codes of `bits`
// bits along the last axis.
std::vector<std::uint8_t> unpacked(const RowTensor& words, int bits) {
  const auto per_row = words.row_bytes() * 8 / static_cast<std::size_t>(bits);
  std::vector<std::uint8_t> out(
      static_cast<std::size_t>(words.rows()) * per_row);
  std::vector<std::byte> scratch(words.row_bytes());
  for (std::int64_t r = 0; r < words.rows(); ++r)
    unpack_bits(
        words.row(r, scratch),
        bits,
        std::span(out).subspan(static_cast<std::size_t>(r) * per_row, per_row));
  return out;
}

// Values [experts, groups, rows] as [experts, rows, groups].
template <typename To, typename From>
std::vector<To> by_row(
    const std::vector<From>& values,
    const EncodedMatrix& m,
    int groups) {
  std::vector<To> out;
  out.reserve(values.size());
  const auto width = static_cast<std::size_t>(m.rows);
  const auto matrix = static_cast<std::size_t>(groups) * width;
  for (std::size_t e = 0; e < static_cast<std::size_t>(m.experts); ++e)
    for (std::size_t r = 0; r < width; ++r)
      for (std::size_t g = 0; g < static_cast<std::size_t>(groups); ++g)
        out.push_back(values[e * matrix + g * width + r]);
  return out;
}

// [rows, columns] of each expert.
Shape64 shape_of(
    const EncodedMatrix& m,
    std::int64_t rows,
    std::int64_t columns) {
  Shape64 shape{rows, columns};
  if (m.stacked) shape.insert(shape.begin(), m.experts);
  return shape;
}

} // namespace

ColumnWords::ColumnWords(RowTensor words) : words_(std::move(words)) {
  static std::atomic<std::uint64_t> next = 1;
  id_ = next++;
  const auto& shape = words_.shape();
  columns_ = static_cast<int>(shape.back());
  height_ = static_cast<int>(shape[shape.size() - 2]);
}

std::span<const std::uint32_t> ColumnWords::column(int expert, int column)
    const {
  struct Cache {
    std::uint64_t id = 0;
    int expert = -1, block = -1;
    std::vector<std::uint32_t> words; // [block_columns, K]
    std::vector<std::byte> scratch;
  };
  thread_local Cache cache;
  const int block = column / block_columns;
  const auto height = static_cast<std::size_t>(height_);
  if (cache.id != id_ || cache.expert != expert || cache.block != block) {
    const int first = block * block_columns;
    const auto width =
        static_cast<std::size_t>(std::min(block_columns, columns_ - first));
    cache.words.resize(block_columns * height);
    cache.scratch.resize(words_.row_bytes());
    for (std::size_t k = 0; k < height; ++k) {
      auto row = words_.row(
          std::int64_t{expert} * height_ + static_cast<std::int64_t>(k),
          cache.scratch);
      for (std::size_t c = 0; c < width; ++c)
        std::memcpy(
            &cache.words[c * height + k],
            row.data() + 4 * (static_cast<std::size_t>(first) + c),
            4);
    }
    cache.id = id_;
    cache.expert = expert;
    cache.block = block;
  }
  return std::span(cache.words)
      .subspan(
          static_cast<std::size_t>(column % block_columns) * height, height);
}

void ColumnWords::done(int expert) const {
  words_.drop(0, std::int64_t{expert} * height_);
}

ColumnFormat::ColumnFormat(const Fields& block)
    : group_(block.opt("group_size", 128)) {}

std::vector<Rule> ColumnFormat::rules() const {
  return {rename("*.qweight", "*.weight")};
}

bool ColumnFormat::recognises(const ModuleTensors& module) const {
  const auto* weight = module.peek("weight");
  return weight != nullptr && weight->storage() == Storage::i32 &&
      module.has("scales");
}

Scales ColumnFormat::scales_of(const ModuleTensors& module, EncodedMatrix& m)
    const {
  auto stored = module.take("scales");
  const int group = group_ > 0 ? group_ : m.cols;
  Scales out;
  out.type = stored.storage();
  out.groups = (m.cols + group - 1) / group;
  check_shape(stored, shape_of(m, out.groups, m.rows));
  out.scales = by_row<float>(read_floats(stored), m, out.groups);
  m.stored_bytes += stored.bytes();
  return out;
}

std::vector<std::uint8_t> ColumnFormat::zero_codes(
    const ModuleTensors& module,
    EncodedMatrix& m,
    int groups,
    int bits) {
  auto words = module.take("qzeros");
  check_words(words, shape_of(m, groups, m.rows * bits / 32));
  m.stored_bytes += words.bytes();
  return unpacked(words, bits);
}

std::vector<std::int16_t> ColumnFormat::zeros_by_row(
    const std::vector<std::uint8_t>& codes,
    const EncodedMatrix& m,
    int groups) {
  return by_row<std::int16_t>(codes, m, groups);
}

void check_words(const RowTensor& tensor, const Shape64& shape) {
  check_shape(tensor, shape);
  if (tensor.storage() != Storage::i32 && tensor.storage() != Storage::u32)
    fail(
        ErrorKind::weights,
        tensor.where(),
        "expected words of I32, found {}",
        info(tensor.storage()).name);
}

} // namespace mlxlm::quant

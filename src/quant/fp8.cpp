// Matrices of F8_E4M3 with float scales beside them: of blocks (DeepSeek's
// `weight_scale_inv`, in spite of its name a factor), of rows, of the matrix,
// or of 32 inputs (MXFP8).

#include <cmath>
#include <cstring>

#include "checkpoint/values.h"
#include "core/check.h"
#include "quant/codes.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

using kernels::Params;

// Scales [rows of blocks, columns of blocks] of each expert.
struct Blocks {
  int height = 1, width = 1; // of a block
  int rows = 1, cols = 1; // blocks
  std::vector<float> scales;
};

class Fp8Rows final : public kernels::RowSource {
 public:
  Fp8Rows(const EncodedMatrix& m, RowTensor codes, Blocks blocks)
      : rows_(m.rows),
        groups_(m.cols / m.spec.group),
        group_(m.spec.group),
        powers_(m.spec.params == Params::e8m0_scale),
        codes_(std::move(codes)),
        blocks_(std::move(blocks)) {}
  void row(int index, kernels::Row out) const override {
    thread_local std::vector<std::byte> scratch;
    scratch.resize(codes_.row_bytes());
    auto bytes = codes_.row(index, scratch);
    std::memcpy(out.codes.data(), bytes.data(), bytes.size());
    const auto* scales = blocks_.scales.data() +
        std::ptrdiff_t{
            index / rows_ * blocks_.rows + index % rows_ / blocks_.height} *
            blocks_.cols;
    for (int g = 0; g < groups_; ++g) {
      const float scale = scales[g * group_ / blocks_.width];
      auto* at = out.params.data();
      if (powers_)
        at[g] = static_cast<std::byte>(std::ilogb(scale) + 127);
      else
        std::memcpy(at + 4 * g, &scale, 4);
    }
  }
  void done(int index) const override {
    codes_.drop(0, index);
  }

 private:
  int rows_, groups_, group_;
  bool powers_;
  RowTensor codes_;
  Blocks blocks_;
};

class Fp8 final : public WeightFormat {
 public:
  explicit Fp8(const Fields& block) : foreign_(!block.json().empty()) {
    if (!block.has("weight_block_size")) return;
    auto size = block.req<std::vector<int>>("weight_block_size");
    if (size.size() != 2 || size[0] < 1 || size[1] < 1)
      fail(
          ErrorKind::config,
          block.where("weight_block_size"),
          "expected two positive sizes, found {}",
          block.json()["weight_block_size"].dump());
    height_ = size[0];
    width_ = size[1];
  }
  std::string_view name() const override {
    return "FP8";
  }
  // What these libraries keep of activations and caches.
  std::vector<Rule> rules() const override {
    std::vector<Rule> out;
    if (foreign_)
      for (const char* scale :
           {"*.input_scale",
            "*.input_global_scale",
            "*activation_scale",
            "*.q_scale",
            "*.k_scale",
            "*.v_scale"})
        out.push_back(drop(scale));
    return out;
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    if (weight == nullptr || scale_name(module) == nullptr) return false;
    return weight->storage() == Storage::f8_e4m3 ||
        (weight->storage() == Storage::u8 && !weight->shape().empty() &&
         weight->shape().back() == module.in() &&
         module.has("weight_scale_inv"));
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight");
    auto stored = module.take(scale_name(module));
    EncodedMatrix m;
    m.set_shape(weight);
    m.cols = static_cast<int>(weight.shape().back());
    m.stored_bytes += stored.bytes();
    auto blocks = blocks_of(stored, m);
    m.spec.codes = kernels::Codes::e4m3;
    m.spec.bits = 8;
    m.spec.group = 256;
    while (m.spec.group > 16 &&
           (m.cols % m.spec.group != 0 ||
            (blocks.cols > 1 && blocks.width % m.spec.group != 0)))
      m.spec.group /= 2;
    if (blocks.cols > 1 && blocks.width % m.spec.group != 0)
      fail(
          ErrorKind::weights,
          stored.where(),
          "expected blocks of a multiple of 16 inputs, found {}",
          blocks.width);
    if (powers(blocks.scales) && m.spec.group >= 32) {
      m.spec.group = 32;
      m.spec.params = Params::e8m0_scale;
      m.label = "mxfp8";
    } else {
      m.spec.params = Params::f32_scale;
      m.label = "fp8";
    }
    m.source = std::make_shared<Fp8Rows>(m, weight, std::move(blocks));
    return m;
  }

 private:
  static const char* scale_name(const ModuleTensors& module) {
    for (const char* name : {"weight_scale_inv", "weight_scale"})
      if (module.has(name)) return name;
    return nullptr;
  }

  // Powers of two that MXFP8 has: nothing is lost.
  static bool powers(const std::vector<float>& scales) {
    for (float scale : scales) {
      int exponent;
      if (!(scale > 0) || !std::isfinite(scale) ||
          std::frexp(scale, &exponent) != 0.5f || exponent < -125)
        return false;
    }
    return true;
  }

  Blocks blocks_of(const RowTensor& stored, const EncodedMatrix& m) const {
    Blocks out;
    const bool bytes =
        stored.storage() == Storage::u8 || stored.storage() == Storage::f8_e8m0;
    if (bytes)
      for (auto v : exponents(stored))
        out.scales.push_back(e8m0_to_float(v));
    else
      out.scales = read_floats(stored);
    const auto& shape = stored.shape();
    const bool grid = shape.size() == (m.stacked ? 3u : 2u);
    out.height = m.rows;
    out.width = m.cols;
    if (stored.elements() == m.experts) return out; // of the matrix
    if (stored.elements() == std::int64_t{m.experts} * m.rows) { // of rows
      out.height = 1;
      out.rows = m.rows;
      return out;
    }
    if (grid && (!m.stacked || shape[0] == m.experts)) {
      const auto rows = shape[shape.size() - 2], cols = shape.back();
      out.height = block(height_, m.rows, rows);
      out.width = block(width_, m.cols, cols);
      out.rows = static_cast<int>(rows);
      out.cols = static_cast<int>(cols);
      if (out.height > 0 && out.width > 0) return out;
    }
    fail(
        ErrorKind::weights,
        stored.where(),
        "expected scales of the matrix, its rows or blocks of {} x {} of [{}, {}], found [{}]",
        height_,
        width_,
        m.rows,
        m.cols,
        fmt::join(shape, ", "));
  }

  // The block size that cuts `size` into `count`: the config's if it does, else
  // the one that is plain from an even division; 0: none.
  static int block(int wanted, int size, std::int64_t count) {
    if ((size + wanted - 1) / wanted == count) return wanted;
    return count > 0 && size % count == 0 ? static_cast<int>(size / count) : 0;
  }

  static std::vector<std::uint8_t> exponents(const RowTensor& stored) {
    std::vector<std::uint8_t> out;
    std::vector<std::byte> scratch(stored.row_bytes());
    for (std::int64_t r = 0; r < stored.rows(); ++r)
      for (auto byte : stored.row(r, scratch))
        out.push_back(std::to_integer<std::uint8_t>(byte));
    return out;
  }

  bool foreign_;
  int height_ = 128, width_ = 128;
};

} // namespace

WeightFormatPtr fp8_format(const Fields& block) {
  return std::make_shared<Fp8>(block);
}

} // namespace mlxlm::quant

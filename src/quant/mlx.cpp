// Checkpoints that MLX quantized: `weight` (codes in u32 words), `scales`, and
// for the affine mode `biases`. Modes: affine 2, 3, 4, 5, 6, 8 bits; mxfp4,
// mxfp8, nvfp4.

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "core/check.h"
#include "core/strings.h"
#include "quant/codes.h"
#include "quant/families.h"

namespace mlxlm::quant {
namespace {

using kernels::Codes;
using kernels::MatrixSpec;
using kernels::Params;

struct Mode {
  std::string_view name;
  int bits, group; // the only ones it has; 0: free
};
constexpr Mode modes[] = {
    {"affine", 0, 0},
    {"mxfp4", 4, 32},
    {"mxfp8", 8, 32},
    {"nvfp4", 4, 16}};

// What config.json says of a module: group, bits, mode, as far as it says them.
struct Entry {
  bool quantized = true;
  std::optional<int> group, bits;
  std::string mode = "affine";
};

Entry parse_entry(const Fields& f) {
  Entry out;
  if (f.has("group_size")) out.group = f.range("group_size", 16, 128);
  if (f.has("bits")) out.bits = f.range("bits", 2, 8);
  out.mode = f.opt("mode", "affine");
  std::vector<std::string> names;
  for (const auto& mode : modes)
    names.emplace_back(mode.name);
  if (std::find(names.begin(), names.end(), out.mode) == names.end())
    fail(
        ErrorKind::config,
        f.where("mode"),
        "expected {}, found \"{}\"",
        join(names, ", "),
        printable(out.mode));
  return out;
}

// Values of two rows in turn.
template <typename T>
void interleave(
    std::span<const std::byte> a,
    std::span<const std::byte> b,
    std::span<std::byte> out) {
  auto* to = out.data();
  for (std::size_t i = 0; i < a.size(); i += sizeof(T)) {
    std::memcpy(to + 2 * i, a.data() + i, sizeof(T));
    std::memcpy(to + 2 * i + sizeof(T), b.data() + i, sizeof(T));
  }
}

// Codes with scales as they are, or scale and bias side by side.
class MlxRows final : public TensorRows {
 public:
  MlxRows(std::vector<RowTensor> tensors, const MatrixSpec& spec)
      : TensorRows(std::move(tensors)),
        bits_(spec.bits),
        wide_(spec.params == Params::f32_affine) {}
  void row(int index, kernels::Row out) const override {
    unpack_bits(stored(0, index), bits_, out.codes);
    read_params(index, out.params);
  }
  bool words(
      int index,
      std::span<std::uint32_t> codes,
      std::span<std::byte> params) const override {
    if (bits_ != 4) return false;
    const auto bytes = stored(0, index);
    std::memcpy(codes.data(), bytes.data(), codes.size_bytes());
    for (auto& word : codes) // nibbles 0 1 2 ... 7 to 0 4 1 5 2 6 3 7
      word = halves_in_turn(word);
    read_params(index, params);
    return true;
  }

 private:
  void read_params(int index, std::span<std::byte> out) const {
    const auto scales = stored(1, index);
    if (tensors().size() == 2) {
      std::memcpy(out.data(), scales.data(), scales.size());
      return;
    }
    const auto biases = stored(2, index);
    if (wide_)
      interleave<std::uint32_t>(scales, biases, out);
    else
      interleave<std::uint16_t>(scales, biases, out);
  }
  static std::uint32_t halves_in_turn(std::uint32_t x) {
    auto swapped = (x ^ (x >> 8)) & 0x0000ff00u;
    x ^= swapped ^ (swapped << 8);
    swapped = (x ^ (x >> 4)) & 0x00f000f0u;
    return x ^ swapped ^ (swapped << 4);
  }

  int bits_;
  bool wide_;
};

class MlxFormat final : public WeightFormat {
 public:
  explicit MlxFormat(const Fields& config) {
    auto block = config.is_object("quantization")
        ? config.sub("quantization")
        : config.sub("quantization_config");
    // Other libraries' quantization_config has keys of its own.
    if (!config.is_object("quantization") && block.has("quant_method")) return;
    if (block.has("bits") || block.has("group_size")) parse_entry(block);
    block_ = block.where();
    for (const auto& [path, value] : block.json().items()) {
      if (value.is_object()) entries_[path] = parse_entry(block.sub(path));
      if (value.is_boolean()) entries_[path].quantized = value.get<bool>();
      // Other booleans may be settings.
      if (value.is_object() || path.find('.') != std::string::npos)
        modules_.push_back(path);
    }
  }

  std::string_view name() const override {
    return "MLX";
  }
  bool recognises(const ModuleTensors& module) const override {
    const auto* weight = module.peek("weight");
    if (weight == nullptr || !module.has("scales")) return false;
    // Words of other libraries.
    if (weight->storage() == Storage::i32) return false;
    const auto* entry = find(module);
    return entry == nullptr || entry->quantized;
  }
  EncodedMatrix open(const ModuleTensors& module) const override {
    auto weight = module.take("weight"), scales = module.take("scales");
    EncodedMatrix out;
    out.set_shape(weight);
    out.cols = module.in();
    check_codes(weight, scales, module.in());
    const int bits = static_cast<int>(
        weight.row_bytes() * 8 / static_cast<std::size_t>(module.in()));
    const int group = static_cast<int>(module.in() / scales.shape().back());
    const auto& mode = mode_of(weight, scales, bits, group);
    if (const auto* entry = find(module))
      agree(*entry, mode, bits, group, out.where);
    std::vector<RowTensor> tensors{weight, scales};
    if (mode.name == "affine") tensors.push_back(biases_of(module, scales));
    out.spec = spec_of(mode, bits, group, scales.storage());
    out.label = mode.name == "affine"
        ? fmt::format("affine {} bit, group {}", bits, group)
        : std::string(mode.name);
    out.stored_bytes = 0;
    for (const auto& tensor : tensors)
      out.stored_bytes += tensor.bytes();
    out.source = std::make_shared<MlxRows>(std::move(tensors), out.spec);
    return out;
  }
  void check(
      const std::function<bool(std::string_view)>& exists) const override {
    for (const auto& path : modules_)
      if (!exists(path))
        fail(
            ErrorKind::config,
            fmt::format("{}.{}", block_, printable(path)),
            "expected a module that the checkpoint has, found none of that name");
  }

 private:
  const Entry* find(const ModuleTensors& module) const {
    if (entries_.empty()) return nullptr;
    auto it = entries_.find(module.path());
    if (it == entries_.end()) it = entries_.find(module.origin());
    return it == entries_.end() ? nullptr : &it->second;
  }

  static void check_codes(
      const RowTensor& weight,
      const RowTensor& scales,
      int in) {
    const bool words =
        weight.storage() == Storage::u32 || weight.storage() == Storage::u8;
    const auto bits = weight.row_bytes() * 8;
    const auto& s = scales.shape();
    const bool whole = words && bits % static_cast<std::size_t>(in) == 0 &&
        bits / static_cast<std::size_t>(in) <= 8;
    const bool scaled = s.size() == weight.shape().size() && s.back() > 0 &&
        in % s.back() == 0 && scales.rows() == weight.rows();
    if (!whole || !scaled)
      fail(
          ErrorKind::weights,
          weight.where(),
          "expected packed codes and scales of {} inputs, found weight [{}] of {} and scales [{}]",
          in,
          fmt::join(weight.shape(), ", "),
          info(weight.storage()).name,
          fmt::join(s, ", "));
  }

  // Scales of one byte are those of the float modes, told apart by width and
  // group.
  static const Mode& mode_of(
      const RowTensor& weight,
      const RowTensor& scales,
      int bits,
      int group) {
    if (scales.storage() == Storage::u8 ||
        scales.storage() == Storage::f8_e8m0) {
      for (const auto& mode : modes)
        if (mode.bits == bits && mode.group == group) return mode;
    } else {
      const bool width = bits == 2 || bits == 3 || bits == 4 || bits == 5 ||
          bits == 6 || bits == 8;
      if (width && (group == 16 || group == 32 || group == 64 || group == 128))
        return modes[0];
    }
    fail(
        ErrorKind::weights,
        weight.where(),
        "expected a quantization that MLX has, found {} bits, group {}, scales of {}",
        bits,
        group,
        info(scales.storage()).name);
  }

  static RowTensor biases_of(
      const ModuleTensors& module,
      const RowTensor& scales) {
    auto biases = module.take("biases");
    if (biases.shape() != scales.shape() ||
        biases.storage() != scales.storage())
      fail(
          ErrorKind::weights,
          biases.where(),
          "expected [{}] of {} like the scales, found [{}] of {}",
          fmt::join(scales.shape(), ", "),
          info(scales.storage()).name,
          fmt::join(biases.shape(), ", "),
          info(biases.storage()).name);
    return biases;
  }

  static void agree(
      const Entry& entry,
      const Mode& mode,
      int bits,
      int group,
      std::string_view where) {
    if (entry.mode == mode.name && entry.bits.value_or(bits) == bits &&
        entry.group.value_or(group) == group)
      return;
    fail(
        ErrorKind::weights,
        where,
        "config.json says {} of {} bits, group {}; expected such a tensor, found {} of {} bits, group {}",
        entry.mode,
        entry.bits.value_or(bits),
        entry.group.value_or(group),
        mode.name,
        bits,
        group);
  }

  static MatrixSpec spec_of(
      const Mode& mode,
      int bits,
      int group,
      Storage scales) {
    MatrixSpec spec;
    spec.bits = bits;
    spec.group = group;
    if (mode.name == "affine") {
      spec.codes = Codes::unsigned_int;
      spec.params = scales == Storage::f32 ? Params::f32_affine
          : scales == Storage::f16         ? Params::f16_affine
                                           : Params::bf16_affine;
    } else if (mode.name == "mxfp8") {
      spec.codes = Codes::e4m3;
      spec.params = Params::e8m0_scale;
    } else {
      spec.codes = Codes::table;
      spec.table = e2m1;
      spec.half = true;
      spec.params =
          mode.name == "mxfp4" ? Params::e8m0_scale : Params::e4m3_scale;
    }
    return spec;
  }

  std::map<std::string, Entry, std::less<>> entries_;
  std::string block_; // where config.json has them
  std::vector<std::string> modules_; // those that must exist
};

} // namespace

WeightFormatPtr mlx_format(const Fields& config) {
  return std::make_shared<MlxFormat>(config);
}

} // namespace mlxlm::quant

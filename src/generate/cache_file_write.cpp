// Writing prompt-cache files; see cache_file.h.
#include <mlx/ops.h>

#include <algorithm>

#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "generate/cache_file.h"

namespace mlxlm {
namespace {

using FileKind = CacheFileLayer::Kind;

const char* class_of(FileKind kind) {
  switch (kind) {
    case FileKind::rotating:
      return "RotatingKVCache";
    case FileKind::quantized:
      return "QuantizedKVCache";
    case FileKind::states:
      return "ArraysCache";
    case FileKind::plain:
      break;
  }
  return "KVCache";
}

// [tokens, heads, dim] -> [1, heads, tokens, dim].
template <typename T>
std::vector<T> by_head(const std::vector<T>& x, int heads, int tokens) {
  std::vector<T> out(x.size());
  auto dim = x.size() / std::max<std::size_t>(std::size_t(heads) * tokens, 1);
  for (int t = 0; t < tokens; ++t) {
    for (int h = 0; h < heads; ++h) {
      auto from = (std::size_t(t) * heads + h) * dim;
      auto to = (std::size_t(h) * tokens + t) * dim;
      std::copy_n(
          x.begin() + std::ptrdiff_t(from),
          dim,
          out.begin() + std::ptrdiff_t(to));
    }
  }
  return out;
}

class Writer {
 public:
  Writer(const CacheFile& file, CacheLayout layout, bool halves)
      : file_(file), python_(layout == CacheLayout::python), halves_(halves) {}

  std::string content() {
    for (std::size_t i = 0; i < file_.layers.size(); ++i)
      add_layer(int(i), file_.layers[i]);
    for (auto& [name, value] : file_.metadata)
      metadata_[(python_ ? "0." : "1.") + name] = value;
    if (python_) metadata_["2.0"] = "";
    header_["__metadata__"] = metadata_;
    auto text = header_.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    auto size = std::uint64_t(text.size());
    std::string out(sizeof(size), '\0');
    for (std::size_t i = 0; i < sizeof(size); ++i)
      out[i] = char(size >> 8 * i & 0xFF);
    return out + text + data_;
  }

 private:
  void add(
      const std::string& name,
      const char* dtype,
      const std::vector<std::int64_t>& shape,
      const void* bytes,
      std::size_t size) {
    auto begin = data_.size();
    data_.append(static_cast<const char*>(bytes), size);
    header_[name] = {
        {"dtype", dtype},
        {"shape", shape},
        {"data_offsets", {begin, data_.size()}}};
  }

  void add_floats(
      const std::string& name,
      const std::vector<float>& x,
      const std::vector<std::int64_t>& shape) {
    if (!halves_)
      return add(name, "F32", shape, x.data(), x.size() * sizeof(float));
    auto half = mx::astype(
        mx::array(x.data(), mx::Shape{int(x.size())}, mx::float32),
        mx::float16);
    half.eval();
    add(name, "F16", shape, half.data<std::uint8_t>(), half.nbytes());
  }

  void add_codes(
      const std::string& name,
      const CacheRows::Codes& from,
      const CacheFileLayer& layer,
      int dim) {
    int n = layer.rows.count, h = layer.heads;
    auto codes = by_head(from.codes, h, n);
    std::vector<std::uint32_t> words(codes.size() * layer.bits / 32);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      for (int bit = 0; bit < layer.bits; ++bit) {
        auto at = i * layer.bits + bit;
        words[at / 32] |= std::uint32_t(codes[i] >> bit & 1) << at % 32;
      }
    }
    add(name + ".0",
        "U32",
        {1, h, n, dim * layer.bits / 32},
        words.data(),
        words.size() * sizeof(std::uint32_t));
    std::vector<std::int64_t> shape{1, h, n, dim / layer.group};
    add_floats(name + ".1", by_head(from.scales, h, n), shape);
    add_floats(name + ".2", by_head(from.biases, h, n), shape);
  }

  // Numbers that belong to the layer, as the layout wants them.
  void add_numbers(int layer, int arrays, const std::vector<int>& numbers) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      auto place = fmt::format("{}.{}", layer, arrays + int(i));
      if (!python_) {
        metadata_[fmt::format("0.{}.{}", layer, i)] =
            std::to_string(numbers[i]);
        continue;
      }
      std::int32_t number = numbers[i];
      add(place, "I32", {}, &number, sizeof(number));
      auto entry = fmt::format("2.{}", ++scalars_);
      metadata_[entry + ".0"] = place;
      metadata_[entry + ".1"] = "scalar";
    }
    if (numbers.empty() && !python_) metadata_[fmt::format("0.{}", layer)] = "";
  }

  std::vector<int> numbers_of(const CacheFileLayer& layer) const {
    constexpr int step = 256; // of mlx-swift-lm's buffers
    switch (layer.kind) {
      case FileKind::plain:
        // Layout A knows by the number of rows.
        return python_ ? std::vector<int>{layer.offset} : std::vector<int>{};
      case FileKind::rotating:
        if (python_) {
          return {layer.offset, layer.keep, layer.max_size, layer.rows.count};
        }
        return {
            layer.keep, layer.max_size, step, layer.offset, layer.rows.count};
      case FileKind::quantized:
        if (python_) return {layer.offset, layer.group, layer.bits};
        return {step, layer.offset, layer.group, layer.bits};
      case FileKind::states:
        break;
    }
    return {};
  }

  void add_layer(int index, const CacheFileLayer& layer) {
    metadata_[fmt::format("{}.{}", python_ ? 1 : 2, index)] =
        class_of(layer.kind);
    auto name = [&](int i) { return fmt::format("{}.{}", index, i); };
    int n = layer.rows.count, h = layer.heads, arrays = 2;
    if (layer.kind == FileKind::states) {
      arrays = int(layer.states.size());
      for (int i = 0; i < arrays; ++i) {
        auto x = mx::contiguous(mx::astype(layer.states[i], mx::float32));
        x.eval();
        add(name(i),
            "F32",
            {x.shape().begin(), x.shape().end()},
            x.data<float>(),
            x.nbytes());
      }
    } else if (layer.kind == FileKind::quantized) {
      add_codes(name(0), layer.rows.k_codes, layer, layer.k_dim);
      add_codes(name(1), layer.rows.v_codes, layer, layer.v_dim);
    } else {
      add_floats(name(0), by_head(layer.rows.k, h, n), {1, h, n, layer.k_dim});
      add_floats(name(1), by_head(layer.rows.v, h, n), {1, h, n, layer.v_dim});
    }
    add_numbers(index, arrays, numbers_of(layer));
  }

  const CacheFile& file_;
  bool python_, halves_;
  int scalars_ = 0;
  Json header_ = Json::object(), metadata_ = Json::object();
  std::string data_;
};

} // namespace

void write_cache_file(
    const std::string& path,
    const CacheFile& file,
    CacheLayout layout,
    bool halves) {
  write_file(path, Writer(file, layout, halves).content());
}

} // namespace mlxlm

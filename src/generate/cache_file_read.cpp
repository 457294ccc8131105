// Reading prompt-cache files; see cache_file.h.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <numeric>
#include <span>

#include "checkpoint/safetensors.h"
#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"
#include "generate/cache_file.h"

namespace mlxlm {
namespace {

using Kind = CacheFileLayer::Kind;

class Reader : public std::enable_shared_from_this<Reader> {
 public:
  explicit Reader(const std::string& path) : path_(path), source_({path}) {}

  CacheFile read() {
    auto& meta = source_.metadata();
    auto first = meta.find("2.0");
    python_ = first == meta.end() || !is_class(first->second);
    std::string user = python_ ? "0." : "1.", classes = python_ ? "1." : "2.";
    CacheFile out;
    for (auto& [key, value] : meta)
      if (key.rfind(user, 0) == 0) out.metadata[key.substr(2)] = value;
    for (int layer = 0;; ++layer) {
      auto name = meta.find(classes + std::to_string(layer));
      if (name == meta.end()) break;
      out.layers.push_back(read_layer(layer, name->second));
    }
    if (out.layers.empty()) refuse("a prompt cache's layers", "none");
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string& wanted, const std::string& found)
      const {
    fail(ErrorKind::weights, path_, "expected {}, found {}", wanted, found);
  }

  static bool is_class(const std::string& name) {
    return name.size() > 5 && name.substr(name.size() - 5) == "Cache";
  }

  CacheFileLayer read_layer(int layer, const std::string& name) const {
    CacheFileLayer out;
    auto numbers = numbers_of(layer, name);
    auto need = [&](std::size_t count) {
      if (numbers.size() >= count) return;
      refuse(
          fmt::format("{} numbers of layer {}", count, layer),
          fmt::format("{}", numbers.size()));
    };
    if (name == "KVCache" || name == "ConcatenateKVCache") {
      read_rows(layer, out);
      // Layout A keeps no more rows than there are tokens.
      out.offset = numbers.empty() ? out.rows.count : int(numbers[0]);
      in_order(out);
    } else if (name == "RotatingKVCache") {
      out.kind = Kind::rotating;
      need(4);
      read_rows(layer, out);
      rotate(out, numbers);
    } else if (name == "QuantizedKVCache") {
      out.kind = Kind::quantized;
      need(3);
      auto at = numbers.size() >= 4 ? 1 : 0; // mlx-swift-lm's step in front
      out.offset = int(numbers[at]);
      out.group = int(numbers[at + 1]);
      out.bits = int(numbers[at + 2]);
      read_codes(layer, out);
      in_order(out);
    } else if (name == "ArraysCache" || name == "MambaCache") {
      out.kind = Kind::states;
      for (int i = 0; has(layer, i); ++i)
        out.states.push_back(array(layer, i));
    } else {
      refuse("a cache of a known class", name);
    }
    return out;
  }

  std::string key(int layer, int index, int part = -1) const {
    auto out = fmt::format("{}.{}", layer, index);
    return part < 0 ? out : fmt::format("{}.{}", out, part);
  }
  bool has(int layer, int index) const {
    return source_.find(key(layer, index)) != nullptr;
  }
  const TensorView& tensor(const std::string& name) const {
    auto* view = source_.find(name);
    if (!view) refuse("a tensor " + name, "none");
    return *view;
  }
  static RowTensor rows_of(const TensorView& view) {
    return RowTensor(std::make_shared<TensorView>(view));
  }

  mx::array array(int layer, int index) const {
    auto& view = tensor(key(layer, index));
    auto values = read_floats(rows_of(view));
    mx::Shape shape;
    for (auto n : view.shape)
      shape.push_back(int(n));
    return mx::array(values.data(), std::move(shape), mx::float32);
  }

  // What a layer's class keeps besides its arrays.
  std::vector<std::int64_t> numbers_of(int layer, const std::string& name)
      const {
    std::vector<std::int64_t> out;
    auto& meta = source_.metadata();
    if (python_) {
      for (int i = 0;; ++i) {
        auto* view = source_.find(key(layer, i));
        bool nested = source_.find(key(layer, i, 0)) != nullptr;
        if (!view && !nested) break;
        if (nested || !view->shape.empty()) continue;
        out.push_back(read_integers(rows_of(*view)).at(0));
      }
      // offset, keep, max_size, index: as layout A orders them.
      if (name == "RotatingKVCache" && out.size() >= 4) {
        std::rotate(out.begin(), out.begin() + 1, out.begin() + 3);
        out.resize(4);
      }
      return checked(out);
    }
    for (int i = 0;; ++i) {
      auto it = meta.find(fmt::format("0.{}.{}", layer, i));
      if (it == meta.end()) break;
      auto number = parse_integer(it->second);
      if (!number) refuse("a number " + it->first, "\"" + it->second + "\"");
      out.push_back(*number);
    }
    // keep, max_size, step, offset, index [, origin] in mlx-swift-lm.
    if (name == "RotatingKVCache" && out.size() >= 5)
      out.erase(out.begin() + 2);
    return checked(out);
  }

  std::vector<std::int64_t> checked(std::vector<std::int64_t> numbers) const {
    for (auto n : numbers) {
      if (n < 0 || n > (1 << 30))
        refuse("a number from 0 to 2^30", std::to_string(n));
    }
    return numbers;
  }

  static std::optional<std::int64_t> parse_integer(const std::string& text) {
    if (text.empty() || text.size() > 10) return std::nullopt;
    std::int64_t out = 0;
    for (char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      out = 10 * out + (c - '0');
    }
    return out;
  }

  struct Shape {
    std::int64_t heads, tokens, dim;
  };
  Shape shape_of(const TensorView& view) const {
    auto& s = view.shape;
    if (s.size() != 4 || s[0] != 1 || s[1] < 1 || s[3] < 1) {
      refuse(
          view.name + " of shape [1, heads, tokens, dim]",
          fmt::format("{} dimensions", s.size()));
    }
    return {s[1], s[2], s[3]};
  }

  // A tensor [1, heads, tokens, dim] of plain numbers.
  struct Side {
    const TensorView* view;
    Shape shape;

    std::span<const std::byte> row(int head, int token) const {
      auto bytes = static_cast<std::size_t>(shape.dim) *
          static_cast<std::size_t>(info(view->storage).bytes);
      auto index = head * shape.tokens + token;
      return view->bytes.subspan(
          static_cast<std::size_t>(index) * bytes, bytes);
    }
  };
  Side side(const std::string& name) const {
    const auto& view = tensor(name);
    if (!is_plain(view.storage)) refuse("plain numbers in " + name, "blocks");
    return {&view, shape_of(view)};
  }

  // Rows of some tokens, [slots, heads, dim], told one by one in the order in
  // which they lie.
  template <typename Tell>
  static void each_row(
      const Side& from,
      std::span<const int> slots,
      Tell tell) {
    auto heads = static_cast<int>(from.shape.heads);
    for (int head = 0; head < heads; ++head)
      for (std::size_t i = 0; i < slots.size(); ++i)
        tell(
            i * static_cast<std::size_t>(heads) + head,
            from.row(head, slots[i]));
  }

  static std::vector<float> floats(
      const Side& from,
      std::span<const int> slots) {
    auto dim = static_cast<std::size_t>(from.shape.dim);
    std::vector<float> out(slots.size() * from.shape.heads * dim);
    each_row(from, slots, [&](std::size_t row, auto bytes) {
      to_floats(
          from.view->storage, bytes, std::span(out).subspan(row * dim, dim));
    });
    return out;
  }

  void read_rows(int layer, CacheFileLayer& out) const {
    auto k = side(key(layer, 0)), v = side(key(layer, 1));
    bool alike =
        k.shape.heads == v.shape.heads && k.shape.tokens == v.shape.tokens;
    if (!alike)
      refuse(
          "as many values as keys", fmt::format("others in layer {}", layer));
    out.rows.count = int(k.shape.tokens);
    out.heads = int(k.shape.heads);
    out.k_dim = int(k.shape.dim);
    out.v_dim = int(v.shape.dim);
    rows_ = [k, v](std::span<const int> slots) {
      return CacheRows{int(slots.size()), floats(k, slots), floats(v, slots)};
    };
  }

  struct Packed {
    Side words, scales, biases;
    int bits;

    CacheRows::Codes read(std::span<const int> slots) const {
      CacheRows::Codes out{{}, floats(scales, slots), floats(biases, slots)};
      auto count = static_cast<std::size_t>(words.shape.dim) * 32 / bits;
      out.codes.resize(slots.size() * words.shape.heads * count);
      each_row(words, slots, [&](std::size_t row, auto bytes) {
        std::vector<std::uint32_t> stream(words.shape.dim);
        std::memcpy(stream.data(), bytes.data(), bytes.size());
        auto* to = out.codes.data() + row * count;
        for (std::size_t i = 0; i < count; ++i) {
          unsigned code = 0;
          for (int bit = 0; bit < bits; ++bit) { // one bit stream
            auto at = i * bits + bit;
            code |= unsigned(stream[at / 32] >> at % 32 & 1) << bit;
          }
          to[i] = std::uint8_t(code);
        }
      });
      return out;
    }
  };
  Packed packed(int layer, int index, CacheFileLayer& out, int& dim) const {
    Packed all{
        side(key(layer, index, 0)),
        side(key(layer, index, 1)),
        side(key(layer, index, 2)),
        out.bits};
    auto words = all.words.shape, scales = all.scales.shape;
    dim = int(scales.dim) * out.group;
    bool good = words.heads == scales.heads && words.tokens == scales.tokens &&
        words.dim * 32 == std::int64_t(dim) * out.bits &&
        all.words.view->storage == Storage::u32 &&
        all.biases.view->shape == all.scales.view->shape;
    if (!good)
      refuse(
          "codes, scales and biases that fit",
          "others in " + all.words.view->name);
    return all;
  }

  void read_codes(int layer, CacheFileLayer& out) const {
    static const std::vector<int> known{2, 3, 4, 5, 6, 8}, groups{32, 64, 128};
    auto among = [](const std::vector<int>& list, int n) {
      return std::find(list.begin(), list.end(), n) != list.end();
    };
    if (!among(known, out.bits) || !among(groups, out.group)) {
      refuse(
          "2 to 8 bits in groups of 32, 64 or 128",
          fmt::format("{} in groups of {}", out.bits, out.group));
    }
    out.rows.bits = out.bits;
    out.rows.group = out.group;
    auto k = packed(layer, 0, out, out.k_dim);
    auto v = packed(layer, 1, out, out.v_dim);
    bool alike = k.words.shape.heads == v.words.shape.heads &&
        k.words.shape.tokens == v.words.shape.tokens;
    if (!alike)
      refuse(
          "as many values as keys", fmt::format("others in layer {}", layer));
    out.rows.count = int(k.words.shape.tokens);
    out.heads = int(k.words.shape.heads);
    rows_ = [k, v, bits = out.bits, group = out.group](auto slots) {
      CacheRows rows{int(slots.size()), {}, {}, bits, group};
      rows.k_codes = k.read(slots);
      rows.v_codes = v.read(slots);
      return rows;
    };
  }

  // Rows from position 0 on; buffers may be longer than what was read.
  void in_order(CacheFileLayer& out) const {
    if (out.offset > out.rows.count) {
      refuse(
          fmt::format("{} rows", out.offset), std::to_string(out.rows.count));
    }
    out.positions.resize(std::size_t(out.offset));
    std::iota(out.positions.begin(), out.positions.end(), 0);
    std::vector<int> slots(out.positions);
    pick(out, slots);
  }

  // numbers: keep, max_size, offset, index of the next slot.
  void rotate(CacheFileLayer& out, const std::vector<std::int64_t>& numbers)
      const {
    out.keep = int(numbers[0]);
    out.max_size = int(numbers[1]);
    out.offset = int(numbers[2]);
    int index = int(numbers[3]), size = out.rows.count;
    if (out.keep >= std::max(out.max_size, 1) || index > size ||
        out.keep > size)
      refuse("a rotating cache's numbers", "others");
    std::vector<int> slots;
    auto add = [&](int first, int last) {
      for (int i = first; i < last; ++i)
        slots.push_back(i);
    };
    if (index == size || index >= out.offset) {
      add(0, std::min(index, out.offset));
    } else {
      add(0, std::min(out.keep, index));
      add(std::max(index, out.keep), size);
      add(std::min(out.keep, index), index);
    }
    int held = int(slots.size()), gone = out.offset - held;
    if (gone < 0) refuse(fmt::format("{} rows at most", out.offset), "more");
    for (int i = 0; i < held; ++i)
      out.positions.push_back(i < out.keep ? i : i + gone);
    pick(out, slots);
  }

  // The layer's rows are those at `slots`, in that order.
  void pick(CacheFileLayer& out, std::vector<int> slots) const {
    out.rows.count = int(slots.size());
    out.read = [file = shared_from_this(),
                rows = std::move(rows_),
                slots = std::move(slots)](int first, int count) {
      return rows(std::span(slots).subspan(first, count));
    };
  }

  std::string path_;
  SafetensorsSource source_;
  bool python_ = false;
  // Of the layer that is being looked at.
  mutable std::function<CacheRows(std::span<const int> slots)> rows_;
};

} // namespace

int CacheFile::tokens() const {
  int most = 0;
  for (auto& layer : layers)
    most = std::max(most, layer.offset);
  // States do not tell how many tokens they have seen.
  return most > 0 ? most : int(ids().size());
}

namespace {
constexpr const char* ids_key = "mlxlm.tokens";
} // namespace

std::vector<int> CacheFile::ids() const {
  std::vector<int> out;
  auto it = metadata.find(ids_key);
  if (it == metadata.end()) return out;
  for (auto& word : split(it->second, ' ')) {
    int id = 0;
    auto [end, error] =
        std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc{} || end != word.data() + word.size() || id < 0) {
      fail(
          ErrorKind::weights,
          ids_key,
          "expected token ids, found \"{}\"",
          word.substr(0, 20));
    }
    out.push_back(id);
  }
  return out;
}

void CacheFile::set_ids(const std::vector<int>& ids) {
  metadata[ids_key] = fmt::format("{}", fmt::join(ids, " "));
}

CacheFile read_cache_file(const std::string& path) {
  return std::make_shared<Reader>(path)->read();
}

} // namespace mlxlm

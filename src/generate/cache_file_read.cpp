// Reading prompt-cache files; see cache_file.h.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "checkpoint/safetensors.h"
#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"
#include "generate/cache_file.h"

namespace mlxlm {
namespace {

using Kind = CacheFileLayer::Kind;

class Reader {
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

  // [1, heads, tokens, dim] -> [tokens, heads, dim].
  template <typename T>
  static std::vector<T> by_token(
      const std::vector<T>& x,
      std::size_t heads,
      std::size_t tokens,
      std::size_t dim) {
    std::vector<T> out(x.size());
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t t = 0; t < tokens; ++t) {
        std::copy_n(
            x.begin() + std::ptrdiff_t((h * tokens + t) * dim),
            dim,
            out.begin() + std::ptrdiff_t((t * heads + h) * dim));
      }
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

  std::vector<float> floats(const TensorView& view, Shape s) const {
    return by_token(read_floats(rows_of(view)), s.heads, s.tokens, s.dim);
  }

  void read_rows(int layer, CacheFileLayer& out) const {
    auto &k = tensor(key(layer, 0)), &v = tensor(key(layer, 1));
    auto ks = shape_of(k), vs = shape_of(v);
    if (ks.heads != vs.heads || ks.tokens != vs.tokens)
      refuse(
          "as many values as keys", fmt::format("others in layer {}", layer));
    out.rows.count = int(ks.tokens);
    out.heads = int(ks.heads);
    out.k_dim = int(ks.dim);
    out.v_dim = int(vs.dim);
    out.rows.k = floats(k, ks);
    out.rows.v = floats(v, vs);
  }

  CacheRows::Codes read_side(int layer, int side, CacheFileLayer& out, int& dim)
      const {
    auto &w = tensor(key(layer, side, 0)), &s = tensor(key(layer, side, 1));
    auto words = shape_of(w), scales = shape_of(s);
    dim = int(scales.dim) * out.group;
    bool good = words.heads == scales.heads && words.tokens == scales.tokens &&
        words.dim * 32 == std::int64_t(dim) * out.bits &&
        w.storage == Storage::u32;
    auto& b = tensor(key(layer, side, 2));
    if (!good || b.shape != s.shape)
      refuse("codes, scales and biases that fit", "others in " + w.name);
    out.rows.count = int(words.tokens);
    out.heads = int(words.heads);
    CacheRows::Codes codes;
    codes.scales = floats(s, scales);
    codes.biases = floats(b, scales);
    auto packed = by_token(
        read_integers(rows_of(w)), words.heads, words.tokens, words.dim);
    codes.codes.resize(std::size_t(words.tokens * words.heads) * dim);
    for (std::size_t i = 0; i < codes.codes.size(); ++i) {
      unsigned code = 0;
      for (int bit = 0; bit < out.bits; ++bit) { // one bit stream
        auto at = i * out.bits + bit;
        code |= unsigned(packed[at / 32] >> at % 32 & 1) << bit;
      }
      codes.codes[i] = std::uint8_t(code);
    }
    return codes;
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
    out.rows.k_codes = read_side(layer, 0, out, out.k_dim);
    out.rows.v_codes = read_side(layer, 1, out, out.v_dim);
    if (out.rows.k_codes.scales.size() * out.v_dim !=
        out.rows.v_codes.scales.size() * out.k_dim)
      refuse(
          "as many values as keys", fmt::format("others in layer {}", layer));
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

  // Keeps rows `slots`, in that order.
  static void pick(CacheFileLayer& out, const std::vector<int>& slots) {
    auto choose = [&](auto& x) {
      if (x.empty() || out.rows.count == 0) return;
      auto width = x.size() / out.rows.count;
      std::decay_t<decltype(x)> next;
      next.reserve(slots.size() * width);
      for (int slot : slots) {
        auto begin = x.begin() + std::ptrdiff_t(slot * width);
        next.insert(next.end(), begin, begin + std::ptrdiff_t(width));
      }
      x = std::move(next);
    };
    choose(out.rows.k);
    choose(out.rows.v);
    for (auto* side : {&out.rows.k_codes, &out.rows.v_codes}) {
      choose(side->codes);
      choose(side->scales);
      choose(side->biases);
    }
    out.rows.count = int(slots.size());
  }

  std::string path_;
  SafetensorsSource source_;
  bool python_ = false;
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
  return Reader(path).read();
}

} // namespace mlxlm

#include "generate/prefix_blob.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cstring>
#include <limits>

#include "core/check.h"

namespace mlxlm {
namespace {

constexpr std::uint32_t version = 1;

[[noreturn]] void refuse() {
  fail(
      ErrorKind::io,
      "prefix on disk",
      "expected a part of this model's sequences, found something else");
}

std::vector<std::byte> bytes_of(mx::array x) {
  x = mx::contiguous(x);
  x.eval();
  const auto* data = x.data<char>();
  std::vector<std::byte> out(x.nbytes());
  std::memcpy(out.data(), data, out.size());
  return out;
}

mx::array array_of(
    std::span<const std::byte> bytes,
    const mx::Shape& shape,
    mx::Dtype type) {
  auto wanted = static_cast<std::size_t>(mx::size_of(type));
  for (auto n : shape)
    wanted *= static_cast<std::size_t>(n);
  if (wanted != bytes.size()) refuse();
  mx::array raw(
      reinterpret_cast<const std::uint8_t*>(bytes.data()),
      {static_cast<int>(bytes.size())},
      mx::uint8);
  return mx::reshape(mx::view(raw, type), shape);
}

class BlobWriter {
 public:
  void number(std::size_t value) {
    auto narrow = static_cast<std::uint32_t>(value);
    MLXLM_CHECK(narrow == value, "a number of 32 bits");
    add(&narrow, sizeof narrow);
  }
  void bytes(std::span<const std::byte> bytes) {
    number(bytes.size());
    add(bytes.data(), bytes.size());
  }
  template <typename T>
  void list(const std::vector<T>& values) {
    bytes(std::as_bytes(std::span(values)));
  }
  void floats(const std::vector<float>& values, mx::Dtype type) {
    if (values.empty()) return number(0);
    mx::array x(values.data(), {static_cast<int>(values.size())}, mx::float32);
    bytes(bytes_of(mx::astype(x, type)));
  }
  std::vector<std::byte> out;

 private:
  void add(const void* from, std::size_t size) {
    auto at = out.size();
    out.resize(at + size);
    if (size > 0) std::memcpy(out.data() + at, from, size);
  }
};

class BlobReader {
 public:
  explicit BlobReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  int number() {
    std::uint32_t value = 0;
    auto from = take(sizeof value);
    std::memcpy(&value, from.data(), sizeof value);
    if (value > std::uint32_t{std::numeric_limits<int>::max()}) refuse();
    return static_cast<int>(value);
  }
  std::span<const std::byte> bytes() {
    return take(static_cast<std::size_t>(number()));
  }
  template <typename T>
  std::vector<T> list() {
    auto from = bytes();
    if (from.size() % sizeof(T) != 0) refuse();
    std::vector<T> out(from.size() / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), from.data(), from.size());
    return out;
  }
  std::vector<float> floats(mx::Dtype type) {
    auto from = bytes();
    auto width = static_cast<std::size_t>(mx::size_of(type));
    if (from.size() % width != 0) refuse();
    auto count = static_cast<int>(from.size() / width);
    if (count == 0) return {};
    auto x = mx::astype(array_of(from, {count}, type), mx::float32);
    x.eval();
    return {x.data<float>(), x.data<float>() + count};
  }
  bool done() const {
    return rest_.empty();
  }

 private:
  std::span<const std::byte> take(std::size_t size) {
    if (size > rest_.size()) refuse();
    auto out = rest_.first(size);
    rest_ = rest_.subspan(size);
    return out;
  }
  std::span<const std::byte> rest_;
};

const cache::Layer& layer_at(const cache::Layout& layout, int index) {
  if (index >= static_cast<int>(layout.layers.size())) refuse();
  return layout.layers[static_cast<std::size_t>(index)];
}

void check_codes(
    const CacheRows::Codes& codes,
    const CacheRows& rows,
    std::size_t values) {
  auto groups = values / static_cast<std::size_t>(rows.group);
  bool fits = values % static_cast<std::size_t>(rows.group) == 0 &&
      codes.codes.size() == values && codes.scales.size() == groups &&
      codes.biases.size() == groups;
  if (!fits) refuse();
}

void check_rows(const PrefixPart::Rows& part, const cache::Layout& layout) {
  const auto& layer = layer_at(layout, part.layer);
  if (layer.kind != cache::Layer::Kind::keys_values || layer.borrows) refuse();
  const auto& g = layout.groups[static_cast<std::size_t>(layer.group)].geometry;
  const auto& rows = part.rows;
  auto values = [&](int dim) {
    return static_cast<std::size_t>(rows.count) *
        static_cast<std::size_t>(g.kv_heads * dim);
  };
  auto k = values(g.k_dim), v = g.latent ? 0 : values(g.v_dim);
  if (rows.bits == 0) {
    if (rows.k.size() != k || rows.v.size() != v) refuse();
    return;
  }
  if (rows.bits > 8 || rows.group < 1 || g.latent) refuse();
  check_codes(rows.k_codes, rows, k);
  check_codes(rows.v_codes, rows, v);
  int limit = 1 << rows.bits;
  for (const auto* side : {&rows.k_codes, &rows.v_codes})
    for (auto code : side->codes)
      if (code >= limit) refuse();
}

void write(BlobWriter& w, const PrefixPart::Rows& part, mx::Dtype type) {
  const auto& rows = part.rows;
  for (int number : {part.layer, part.first, rows.count, rows.bits, rows.group})
    w.number(static_cast<std::size_t>(number));
  w.floats(rows.k, type);
  w.floats(rows.v, type);
  for (const auto* side : {&rows.k_codes, &rows.v_codes}) {
    w.list(side->codes);
    w.list(side->scales);
    w.list(side->biases);
  }
}

PrefixPart::Rows read_rows(BlobReader& r, mx::Dtype type) {
  PrefixPart::Rows part;
  auto& rows = part.rows;
  for (int* number :
       {&part.layer, &part.first, &rows.count, &rows.bits, &rows.group})
    *number = r.number();
  rows.k = r.floats(type);
  rows.v = r.floats(type);
  for (auto* side : {&rows.k_codes, &rows.v_codes}) {
    side->codes = r.list<std::uint8_t>();
    side->scales = r.list<float>();
    side->biases = r.list<float>();
  }
  return part;
}

PrefixPart::States read_states(BlobReader& r, const cache::Layout& layout) {
  PrefixPart::States part;
  part.layer = r.number();
  const auto& layer = layer_at(layout, part.layer);
  if (layer.kind != cache::Layer::Kind::recurrent) refuse();
  const auto& spec = layout.recurrent[static_cast<std::size_t>(layer.slot)];
  if (r.number() != static_cast<int>(spec.states.size())) refuse();
  for (const auto& state : spec.states) {
    auto shape = state.shape;
    shape.insert(shape.begin(), 1);
    part.states.push_back(array_of(r.bytes(), shape, state.dtype));
  }
  return part;
}

} // namespace

std::vector<std::byte> encode(const PrefixPart& part, mx::Dtype type) {
  BlobWriter w;
  w.number(version);
  w.number(static_cast<std::size_t>(part.first));
  w.list(part.ids);
  w.number(part.rows.size());
  for (const auto& rows : part.rows)
    write(w, rows, type);
  w.number(part.states.size());
  for (const auto& layer : part.states) {
    w.number(static_cast<std::size_t>(layer.layer));
    w.number(layer.states.size());
    for (const auto& state : layer.states)
      w.bytes(bytes_of(state));
  }
  return std::move(w.out);
}

PrefixPart decode(
    std::span<const std::byte> bytes,
    mx::Dtype type,
    const cache::Layout& layout) {
  BlobReader r(bytes);
  if (r.number() != static_cast<int>(version)) refuse();
  PrefixPart part;
  part.first = r.number();
  part.ids = r.list<int>();
  for (int left = r.number(); left > 0; --left) {
    part.rows.push_back(read_rows(r, type));
    check_rows(part.rows.back(), layout);
  }
  for (int left = r.number(); left > 0; --left)
    part.states.push_back(read_states(r, layout));
  if (!r.done()) refuse();
  return part;
}

} // namespace mlxlm

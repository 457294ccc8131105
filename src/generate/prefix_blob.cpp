#include "generate/prefix_blob.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cstring>
#include <limits>

#include "core/check.h"

namespace mlxlm {
namespace {

constexpr std::uint32_t version = 2;

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

const cache::Geometry& geometry_of(const cache::Layout& layout, int index) {
  const auto& layer = layer_at(layout, index);
  if (layer.kind != cache::Layer::Kind::keys_values || layer.borrows) refuse();
  return layout.groups[static_cast<std::size_t>(layer.group)].geometry;
}

void write(BlobWriter& w, const PrefixPart::Rows& part, mx::Dtype type) {
  for (int number : {part.layer, part.first, part.rows.count})
    w.number(static_cast<std::size_t>(number));
  w.floats(part.rows.k, type);
  w.floats(part.rows.v, type);
}

PrefixPart::Rows read_rows(
    BlobReader& r,
    mx::Dtype type,
    const cache::Layout& layout) {
  PrefixPart::Rows part;
  auto& rows = part.rows;
  for (int* number : {&part.layer, &part.first, &rows.count})
    *number = r.number();
  rows.k = r.floats(type);
  rows.v = r.floats(type);
  const auto& g = geometry_of(layout, part.layer);
  auto values = [&](int dim) {
    return static_cast<std::size_t>(rows.count) *
        static_cast<std::size_t>(g.kv_heads * dim);
  };
  if (rows.k.size() != values(g.k_dim) ||
      rows.v.size() != (g.latent ? 0 : values(g.v_dim)))
    refuse();
  return part;
}

// Its size is for the memory it goes to.
PrefixPart::Page read_page(BlobReader& r, const cache::Layout& layout) {
  PrefixPart::Page page;
  page.layer = r.number();
  page.number = r.number();
  page.bytes = r.list<std::byte>();
  geometry_of(layout, page.layer);
  return page;
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
  w.number(part.pages.size());
  for (const auto& page : part.pages) {
    w.number(static_cast<std::size_t>(page.layer));
    w.number(static_cast<std::size_t>(page.number));
    w.list(page.bytes);
  }
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
  for (int left = r.number(); left > 0; --left)
    part.rows.push_back(read_rows(r, type, layout));
  for (int left = r.number(); left > 0; --left)
    part.pages.push_back(read_page(r, layout));
  for (int left = r.number(); left > 0; --left)
    part.states.push_back(read_states(r, layout));
  if (!r.done()) refuse();
  return part;
}

} // namespace mlxlm

// Between prompt-cache files and sequences; see cache_file.h.
#include "generate/cache_file.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>

#include "cache/layout.h"
#include "core/check.h"

namespace mlxlm {
namespace {

using Kind = CacheFileLayer::Kind;

// Layers of the model that mlx-lm has a cache for: not those that borrow.
std::vector<int> own_layers(const cache::Layout& layout) {
  std::vector<int> out;
  for (int i = 0; i < int(layout.layers.size()); ++i) {
    auto& layer = layout.layers[i];
    bool own = layer.kind != cache::Layer::Kind::none && !layer.borrows;
    if (own) out.push_back(i);
  }
  return out;
}

[[noreturn]] void refuse(int layer, const std::string& wanted) {
  fail(
      ErrorKind::request,
      "prompt cache",
      "expected {} in layer {}, found another; is it this model's?",
      wanted,
      layer);
}

// Keys and values of a latent layer are parts of one row.
CacheRows joined(const CacheRows& rows, int k_dim, int v_dim) {
  CacheRows out{rows.count};
  for (int i = 0; i < rows.count; ++i) {
    auto k = rows.k.begin() + std::ptrdiff_t(i) * k_dim;
    auto v = rows.v.begin() + std::ptrdiff_t(i) * v_dim;
    out.k.insert(out.k.end(), k, k + k_dim);
    out.k.insert(out.k.end(), v, v + v_dim);
  }
  return out;
}

// Rows [first, first + count) of x, `width` values each.
template <typename T>
std::vector<T> cut(const std::vector<T>& x, int rows, int first, int count) {
  auto width = rows > 0 ? std::ptrdiff_t(x.size()) / rows : 0;
  auto begin = x.begin() + first * width;
  return {begin, begin + count * width};
}

CacheRows cut(const CacheRows& x, int first, int count) {
  CacheRows out{count, cut(x.k, x.count, first, count)};
  out.v = cut(x.v, x.count, first, count);
  out.bits = x.bits;
  out.group = x.group;
  auto side = [&](const CacheRows::Codes& from) {
    return CacheRows::Codes{
        cut(from.codes, x.count, first, count),
        cut(from.scales, x.count, first, count),
        cut(from.biases, x.count, first, count)};
  };
  out.k_codes = side(x.k_codes);
  out.v_codes = side(x.v_codes);
  return out;
}

void restore_rows(
    const CacheFileLayer& from,
    const cache::Geometry& g,
    int index,
    SequenceMemory& sequence) {
  if (from.kind == Kind::states) refuse(index, "keys and values");
  int rest = g.k_dim - g.v_dim;
  bool fits = from.heads == g.kv_heads &&
      (g.latent ? from.k_dim == g.v_dim && from.v_dim == rest && !from.bits
                : from.k_dim == g.k_dim && from.v_dim == g.v_dim);
  if (!fits) {
    refuse(
        index,
        fmt::format(
            "{} heads of {} and {} values", g.kv_heads, g.k_dim, g.v_dim));
  }
  for (auto [first, last] : g.shown(from.offset)) {
    for (int i = first; i < last; ++i) {
      auto& all = from.positions;
      if (!std::binary_search(all.begin(), all.end(), i))
        refuse(index, fmt::format("the row of token {}", i));
    }
  }
  // Runs of neighbouring positions, some rows at a time.
  constexpr int together = 512;
  for (int i = 0, end; i < from.rows.count; i = end) {
    int most = std::min(from.rows.count, i + together);
    for (end = i + 1; end < most; ++end)
      if (from.positions[end] != from.positions[end - 1] + 1) break;
    auto rows = from.some(i, end - i);
    if (g.latent) rows = joined(rows, from.k_dim, from.v_dim);
    sequence.set_rows(index, from.positions[i], rows);
  }
}

void restore_states(
    const CacheFileLayer& from,
    const Recurrent& spec,
    int index,
    Memory& memory,
    const Segment& segment) {
  if (from.kind != Kind::states || from.states.size() != spec.states.size())
    refuse(index, "recurrent states");
  for (std::size_t i = 0; i < spec.states.size(); ++i) {
    auto shape = spec.states[i].shape;
    shape.insert(shape.begin(), 1);
    if (from.states[i].shape() != shape) refuse(index, "states of its shapes");
    memory.layer(index).set_state(
        segment, int(i), mx::astype(from.states[i], spec.states[i].dtype));
  }
}

void append(CacheRows& to, CacheRows from) {
  auto add = [](auto& a, const auto& b) {
    a.insert(a.end(), b.begin(), b.end());
  };
  to.count += from.count;
  to.bits = from.bits;
  to.group = from.group;
  add(to.k, from.k);
  add(to.v, from.v);
  for (auto [a, b] :
       {std::pair{&to.k_codes, &from.k_codes}, {&to.v_codes, &from.v_codes}}) {
    add(a->codes, b->codes);
    add(a->scales, b->scales);
    add(a->biases, b->biases);
  }
}

// A latent row in the two parts that files have.
void part(CacheFileLayer& out, const cache::Geometry& g) {
  CacheRows rows{out.rows.count};
  for (int i = 0; i < out.rows.count; ++i) {
    auto k = out.rows.k.begin() + std::ptrdiff_t(i) * g.k_dim;
    rows.k.insert(rows.k.end(), k, k + g.v_dim);
    rows.v.insert(rows.v.end(), k + g.v_dim, k + g.k_dim);
  }
  out.rows = std::move(rows);
  out.k_dim = g.v_dim;
  out.v_dim = g.k_dim - g.v_dim;
}

CacheFileLayer layer_of(
    const cache::Geometry& g,
    int index,
    SequenceMemory& sequence) {
  CacheFileLayer out;
  out.offset = sequence.length();
  out.heads = g.kv_heads;
  out.k_dim = g.k_dim;
  out.v_dim = g.v_dim;
  if (g.window > 0) {
    out.kind = Kind::rotating;
    out.max_size = g.window;
    out.keep = g.keep;
  }
  bool codes = g.window == 0;
  for (auto [first, last] : g.shown(out.offset)) {
    append(out.rows, sequence.rows(index, first, last - first, codes));
    for (int i = first; i < last; ++i)
      out.positions.push_back(i);
  }
  if (out.rows.bits > 0) {
    out.kind = Kind::quantized;
    out.bits = out.rows.bits;
    out.group = out.rows.group;
  }
  if (g.latent) part(out, g);
  return out;
}

} // namespace

CacheRows CacheFileLayer::some(int first, int count) const {
  return read ? read(first, count) : cut(rows, first, count);
}

void adopt(const CacheFile& file, MemoryOptions& options) {
  using kernels::RowCodec;
  for (auto& layer : file.layers) {
    if (layer.kind == Kind::quantized && !options.storage.packs()) {
      RowCodec codec{RowCodec::Kind::affine, layer.bits, layer.group};
      options.storage = {.keys = codec, .values = codec};
    }
    if (layer.kind == Kind::rotating && layer.keep > 0 && !options.max_tokens) {
      options.max_tokens = layer.max_size;
      options.keep_tokens = layer.keep;
    }
  }
}

void restore(
    const CacheFile& file,
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options,
    Memory& memory,
    SequenceMemory& sequence) {
  cache::Layout layout(specs);
  layout.limit(options.max_tokens, options.keep_tokens);
  auto layers = own_layers(layout);
  if (layers.size() != file.layers.size()) {
    fail(
        ErrorKind::request,
        "prompt cache",
        "expected {} layers, found {}; is it this model's?",
        layers.size(),
        file.layers.size());
  }
  int tokens = file.tokens();
  MLXLM_CHECK(sequence.length() == 0, "an empty sequence to restore");
  sequence.begin(tokens);
  Segment segment{&sequence, 0, tokens, 0};
  try {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto& layer = layout.layers[layers[i]];
      auto& from = file.layers[i];
      if (layer.kind == cache::Layer::Kind::recurrent) {
        restore_states(
            from, layout.recurrent[layer.slot], layers[i], memory, segment);
        continue;
      }
      if (from.offset != tokens)
        refuse(layers[i], "as many tokens as elsewhere");
      auto& geometry = layout.groups[layer.group].geometry;
      restore_rows(from, geometry, layers[i], sequence);
    }
  } catch (...) {
    sequence.rollback();
    throw;
  }
  sequence.commit(tokens);
}

CacheFile snapshot(
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options,
    Memory& memory,
    SequenceMemory& sequence) {
  cache::Layout layout(specs);
  layout.limit(options.max_tokens, options.keep_tokens);
  CacheFile out;
  Segment segment{&sequence, 0, 1, sequence.length()};
  for (int index : own_layers(layout)) {
    auto& layer = layout.layers[index];
    if (layer.kind == cache::Layer::Kind::keys_values) {
      out.layers.push_back(
          layer_of(layout.groups[layer.group].geometry, index, sequence));
      continue;
    }
    auto& states = out.layers.emplace_back();
    states.kind = Kind::states;
    auto& spec = layout.recurrent[layer.slot];
    for (int i = 0; i < int(spec.states.size()); ++i)
      states.states.push_back(memory.layer(index).state(segment, i));
    mx::eval(states.states);
  }
  return out;
}

} // namespace mlxlm

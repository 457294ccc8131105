// Where packed rows lie, and queries for them; see packed_layout.h.
#include "runtime/kernels/attention/packed_layout.h"

#include <algorithm>

#include "core/check.h"
#include "runtime/kernels/attention/code_block.h"
#include "runtime/kernels/attention/row_coder.h"

namespace mlxlm::kernels {

namespace {

using Kind = RowCodec::Kind;
using reference::key_seed;
using reference::value_seed;

std::size_t up_to_64(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

void check_codec(const RowCodec& c, bool keys) {
  auto in = [&](std::initializer_list<int> list) {
    return std::find(list.begin(), list.end(), c.bits) != list.end();
  };
  bool good = c.kind == Kind::floats ||
      (c.kind == Kind::affine && in({2, 3, 4, 5, 6, 8}) &&
       (c.group == 32 || c.group == 64 || c.group == 128)) ||
      (c.kind == Kind::turbo && in({1, 2, 3, 4}) &&
       (!c.sketch || (keys && c.bits >= 2)));
  MLXLM_CHECK(good, "a codec of keys and values that exists");
}

// The parts of a stretch of a row.
std::vector<CodePart> parts_of(
    const RowCodec& codec,
    int begin,
    int dim,
    std::uint32_t seed) {
  CodePart part{codec.kind, codec.bits, begin, dim, dim, 1};
  if (codec.kind == Kind::floats) part.bits = 0;
  if (codec.kind == Kind::affine) {
    part.group = codec.group;
    part.groups = (dim + codec.group - 1) / codec.group;
  }
  if (codec.kind != Kind::turbo) return {part};
  part.turbo =
      std::make_shared<TurboState>(dim, codec.bits, seed, codec.sketch);
  if (!codec.sketch) return {part};
  part.bits = codec.bits - 1;
  auto sketch = part;
  sketch.bits = 1;
  sketch.signs = true;
  return {part, sketch};
}

} // namespace

PackedLayout::PackedLayout(
    FloatType type,
    int kv_heads,
    int k_dim,
    int v_dim,
    int tokens,
    bool latent,
    const RowCodec& key_codec,
    const RowCodec& value_codec)
    : type(type),
      kv_heads(kv_heads),
      k_dim(k_dim),
      v_dim(v_dim),
      tokens(tokens),
      latent(latent),
      blocks_of_tokens_(blocks_for(tokens)) {
  check_codec(key_codec, true);
  check_codec(value_codec, false);
  if (latent) {
    // Values are the front of the row, so it is a part of its own.
    MLXLM_CHECK(!key_codec.sketch, "a sketch of keys that are values too");
    keys = parts_of(key_codec, 0, v_dim, key_seed);
    if (k_dim > v_dim) {
      auto rest = parts_of(key_codec, v_dim, k_dim - v_dim, key_seed);
      keys.insert(keys.end(), rest.begin(), rest.end());
    }
  } else {
    keys = parts_of(key_codec, 0, k_dim, key_seed);
  }
  for (auto& part : keys) {
    part.query = query_floats;
    query_floats += part.dim;
    if (part.kind == Kind::affine) query_floats += part.groups;
    place(part, !latent);
  }
  centered = !latent && key_codec.kind == Kind::turbo;
  if (centered) {
    center = head_bytes;
    stretch = center + k_dim * size_of(FloatType::f16);
    head_bytes = up_to_64(stretch + k_dim);
  }
  if (latent) {
    values = keys[0];
  } else {
    values = parts_of(value_codec, 0, v_dim, value_seed)[0];
    place(values, false);
  }
}

void PackedLayout::place(CodePart& part, bool across) {
  std::size_t row = across ? blocks_of_tokens_ : blocks_for(part.dim);
  part.step = part.bits > 0 ? row * block_bytes(part.bits)
                            : row * block_codes * size_of(type);
  // Along, floats need no padding.
  if (part.bits == 0 && !across) part.step = part.dim * size_of(type);
  part.codes = head_bytes;
  auto padded = std::size_t(blocks_of_tokens_) * block_codes;
  head_bytes += part.step * (across ? std::size_t(part.dim) : tokens);
  head_bytes = up_to_64(head_bytes);
  if (part.kind == Kind::floats) return;
  auto scales = up_to_64(part.groups * padded * size_of(scale_type(part)));
  part.scales = head_bytes;
  head_bytes += scales;
  if (part.kind != Kind::affine) return;
  part.biases = head_bytes;
  head_bytes += scales;
}

void prepare_query(const PackedLayout& layout, const float* q, float* out) {
  const float* rotated = nullptr; // of the part before
  for (auto& part : layout.keys) {
    auto* to = out + part.query;
    if (part.signs) {
      project(part.turbo->projection, rotated, part.dim, to);
      continue;
    }
    std::copy_n(q + part.begin, part.dim, to);
    if (part.kind == Kind::turbo) part.turbo->rotation.apply(to);
    rotated = to;
    if (part.kind != Kind::affine) continue;
    for (int g = 0; g < part.groups; ++g) {
      int first = g * part.group, last = std::min(first + part.group, part.dim);
      float sum = 0;
      for (int i = first; i < last; ++i)
        sum += to[i];
      to[part.dim + g] = sum;
    }
  }
}

} // namespace mlxlm::kernels

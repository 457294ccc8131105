// Writing and reading packed rows; see packed_layout.h.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/kernels/attention/code_block.h"
#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/attention/packed_layout.h"
#include "runtime/kernels/ops/rows.h"

namespace mlxlm::kernels {

namespace {

using Kind = RowCodec::Kind;

void store_scalar(FloatType type, float x, std::byte* at) {
  if (type == FloatType::f16) x = std::clamp(x, -65504.0f, 65504.0f);
  from_floats(type, &x, 1, 1, at);
}

float load_scalar(FloatType type, const std::byte* at) {
  float x;
  to_floats(type, at, 1, 0, &x);
  return x;
}

// One row of a head within its page.
struct Place {
  const PackedLayout& layout;
  std::byte* head;
  int token;
  bool across;

  std::byte* scale(const CodePart& p, std::size_t base, int group) const {
    auto index = std::size_t(group) * layout.blocks() * block_codes + token;
    return head + base + index * size_of(layout.scale_type(p));
  }
  // The block of value i and its place there.
  std::pair<std::uint8_t*, int> code(const CodePart& p, int i) const {
    int at = across ? token : i;
    auto* block = head + p.codes + p.step * (across ? i : token) +
        at / block_codes * block_bytes(p.bits);
    return {reinterpret_cast<std::uint8_t*>(block), at % block_codes};
  }
  std::byte* plain(const CodePart& p, int i) const {
    return head + p.codes + p.step * (across ? i : token) +
        (across ? token : i) * size_of(layout.type);
  }
  void put(const CodePart& p, const std::uint8_t* codes) const {
    for (int i = 0; i < p.dim; ++i) {
      auto [block, at] = code(p, i);
      put_code(block, p.bits, at, codes[i]);
    }
  }
  void get(const CodePart& p, std::uint8_t* codes) const {
    for (int i = 0; i < p.dim; ++i) {
      auto [block, at] = code(p, i);
      codes[i] = std::uint8_t(get_code(block, p.bits, at));
    }
  }
};

// As MLX quantizes: the edge of larger magnitude is met exactly.
void affine_codes(
    const float* x,
    int n,
    int bits,
    FloatType type,
    float& scale,
    float& bias,
    std::uint8_t* codes) {
  auto [low, high] = std::minmax_element(x, x + n);
  float most = float((1 << bits) - 1);
  bool negative = std::abs(*low) > std::abs(*high);
  scale = std::max((*high - *low) / most, 1e-7f);
  scale = negative ? scale : -scale;
  float edge = negative ? *low : *high;
  float steps = std::rint(edge / scale);
  bias = 0;
  if (steps != 0) {
    scale = edge / steps;
    bias = edge;
  }
  auto rounded = [&](float v) { // what will be read back
    std::byte bytes[4];
    store_scalar(type, v, bytes);
    return load_scalar(type, bytes);
  };
  scale = rounded(scale);
  bias = rounded(bias);
  for (int i = 0; i < n; ++i) {
    float code = scale == 0 ? 0 : std::rint((x[i] - bias) / scale);
    codes[i] = std::uint8_t(std::clamp(code, 0.0f, most));
  }
}

struct Buffers {
  std::vector<std::uint8_t> codes, signs;
  std::vector<float> scratch;

  void resize(int dim) {
    auto n = std::size_t(dim);
    if (codes.size() < n) codes.resize(n), signs.resize(n);
    if (scratch.size() < 2 * n) scratch.resize(2 * n);
  }
  static Buffers& mine(int dim) {
    thread_local Buffers all;
    all.resize(dim);
    return all;
  }
};

void store_floats(const Place& at, const CodePart& p, const float* x) {
  auto& b = Buffers::mine(p.dim);
  auto *most = b.scratch.data(), *typed = most + p.dim;
  auto type = at.layout.type;
  float limit = type == FloatType::f16 ? 65504.0f : INFINITY;
  for (int i = 0; i < p.dim; ++i)
    most[i] = std::clamp(x[i], -limit, limit);
  from_floats(type, most, p.dim, 1, typed);
  auto* bytes = reinterpret_cast<const std::byte*>(typed);
  auto size = size_of(type);
  for (int i = 0; i < p.dim; ++i)
    std::memcpy(at.plain(p, i), bytes + i * size, size);
}

void load_floats(const Place& at, const CodePart& p, float* x) {
  auto& b = Buffers::mine(p.dim);
  auto* bytes = reinterpret_cast<std::byte*>(b.scratch.data());
  auto size = size_of(at.layout.type);
  for (int i = 0; i < p.dim; ++i)
    std::memcpy(bytes + i * size, at.plain(p, i), size);
  to_floats(at.layout.type, bytes, p.dim, 0, x);
}

// What a key is kept as a difference from; null: it is not.
struct Origin {
  const float *center, *stretch, *shrink;
};

// Stretched, rotated keys minus their center, if they have one.
void store_turbo(
    const Place& at,
    const CodePart& p,
    const CodePart* sketch,
    const float* x,
    const Origin& origin) {
  auto& b = Buffers::mine(p.dim);
  auto type = at.layout.scale_type(p);
  TurboRow row{b.codes.data(), 0, b.signs.data()};
  if (origin.center) {
    auto* y = b.scratch.data();
    for (int i = 0; i < p.dim; ++i)
      y[i] = x[i] * origin.stretch[i];
    p.turbo->rotation.apply(y);
    for (int i = 0; i < p.dim; ++i)
      y[i] -= origin.center[i];
    turbo_encode_rotated(*p.turbo, y, row, y + p.dim, TurboNorm::product);
  } else {
    auto* y = b.scratch.data();
    std::copy_n(x, p.dim, y);
    p.turbo->rotation.apply(y);
    turbo_encode_rotated(*p.turbo, y, row, y + p.dim, TurboNorm::least);
  }
  store_scalar(type, row.norm, at.scale(p, p.scales, 0));
  at.put(p, row.codes);
  if (!sketch) return;
  auto step = row.norm * row.residual * sketch_step(p.dim);
  // Codes 0 and 1 mean -1 and 1.
  store_scalar(type, step, at.scale(*sketch, sketch->scales, 0));
  at.put(*sketch, row.signs);
}

void load_turbo(
    const Place& at,
    const CodePart& p,
    const CodePart* sketch,
    float* x,
    const Origin& origin) {
  auto& b = Buffers::mine(p.dim);
  auto type = at.layout.scale_type(p);
  at.get(p, b.codes.data());
  TurboRow row{b.codes.data(), 0, b.signs.data()};
  row.norm = load_scalar(type, at.scale(p, p.scales, 0));
  if (sketch) {
    at.get(*sketch, row.signs);
    float step = load_scalar(type, at.scale(*sketch, sketch->scales, 0));
    float one = row.norm * sketch_step(p.dim);
    row.residual = one > 0 ? step / one : 0;
  }
  if (!origin.center) return turbo_decode(*p.turbo, row, x, b.scratch.data());
  turbo_decode_rotated(*p.turbo, row, x, b.scratch.data());
  for (int i = 0; i < p.dim; ++i)
    x[i] += origin.center[i];
  p.turbo->rotation.inverse(x);
  for (int i = 0; i < p.dim; ++i)
    x[i] *= origin.shrink[i];
}

void store_part(
    const Place& at,
    const CodePart& p,
    const CodePart* sketch,
    const float* x,
    const Origin& origin = {}) {
  auto& b = Buffers::mine(p.dim);
  auto type = at.layout.scale_type(p);
  switch (p.kind) {
    case Kind::floats:
      return store_floats(at, p, x);
    case Kind::affine:
      for (int g = 0; g < p.groups; ++g) {
        int first = g * p.group, n = std::min(p.group, p.dim - first);
        float scale, bias;
        affine_codes(
            x + first, n, p.bits, type, scale, bias, b.codes.data() + first);
        store_scalar(type, scale, at.scale(p, p.scales, g));
        store_scalar(type, bias, at.scale(p, p.biases, g));
      }
      return at.put(p, b.codes.data());
    case Kind::turbo:
      return store_turbo(at, p, sketch, x, origin);
  }
}

void load_part(
    const Place& at,
    const CodePart& p,
    const CodePart* sketch,
    float* x,
    const Origin& origin = {}) {
  auto& b = Buffers::mine(p.dim);
  auto type = at.layout.scale_type(p);
  if (p.kind == Kind::floats) return load_floats(at, p, x);
  if (p.kind == Kind::turbo) return load_turbo(at, p, sketch, x, origin);
  at.get(p, b.codes.data());
  for (int i = 0; i < p.dim; ++i) {
    float scale = load_scalar(type, at.scale(p, p.scales, i / p.group));
    float bias = load_scalar(type, at.scale(p, p.biases, i / p.group));
    x[i] = scale * float(b.codes[i]) + bias;
  }
}

// Of a token's key.
Origin origin_of(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token) {
  if (!layout.centered) return {};
  int dim = layout.k_dim;
  thread_local std::vector<float> all;
  all.resize(std::size_t(3) * dim);
  auto *center = all.data(), *stretch = center + dim, *shrink = stretch + dim;
  key_center(layout, layer, head, tokens_before_block(token), center);
  stretch_factors(layout.stretch_of(layer, head), dim, stretch);
  shrink_factors(layout.stretch_of(layer, head), dim, shrink);
  return {center, stretch, shrink};
}

template <typename Fn>
void each_key_part(const PackedLayout& layout, Fn fn) {
  auto& parts = layout.keys;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].signs) continue;
    bool sketched = i + 1 < parts.size() && parts[i + 1].signs;
    fn(parts[i], sketched ? &parts[i + 1] : nullptr);
  }
}

Place place_of(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    bool across) {
  auto* base = const_cast<std::byte*>(layer) + head * layout.head_bytes;
  return {layout, base, token, across};
}

} // namespace

void store_packed_row(
    const PackedLayout& layout,
    std::byte* layer,
    int head,
    int token,
    const float* k,
    const float* v) {
  auto keys = place_of(layout, layer, head, token, !layout.latent);
  auto origin = origin_of(layout, layer, head, token);
  each_key_part(layout, [&](auto& part, auto* sketch) {
    store_part(keys, part, sketch, k + part.begin, origin);
  });
  if (layout.latent) return;
  auto values = place_of(layout, layer, head, token, false);
  store_part(values, layout.values, nullptr, v);
}

bool holds_affine(const PackedLayout& layout, int bits, int group) {
  auto fits = [&](const CodePart& part) {
    return part.kind == Kind::affine && part.bits == bits &&
        part.group == group && part.dim % group == 0;
  };
  return !layout.latent && fits(layout.keys[0]) && fits(layout.values);
}

void store_affine_row(
    const PackedLayout& layout,
    std::byte* layer,
    int head,
    int token,
    const AffineRow& k,
    const AffineRow& v) {
  auto put = [&](const CodePart& part, const AffineRow& row, bool across) {
    auto at = place_of(layout, layer, head, token, across);
    auto type = layout.scale_type(part);
    at.put(part, row.codes);
    for (int g = 0; g < part.groups; ++g) {
      store_scalar(type, row.scales[g], at.scale(part, part.scales, g));
      store_scalar(type, row.biases[g], at.scale(part, part.biases, g));
    }
  };
  put(layout.keys[0], k, true);
  put(layout.values, v, false);
}

void load_affine_row(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    const AffineRow& k,
    const AffineRow& v) {
  auto get = [&](const CodePart& part, const AffineRow& row, bool across) {
    auto at = place_of(layout, layer, head, token, across);
    auto type = layout.scale_type(part);
    at.get(part, row.codes);
    for (int g = 0; g < part.groups; ++g) {
      row.scales[g] = load_scalar(type, at.scale(part, part.scales, g));
      row.biases[g] = load_scalar(type, at.scale(part, part.biases, g));
    }
  };
  get(layout.keys[0], k, true);
  get(layout.values, v, false);
}

void load_packed_row(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    float* k,
    float* v) {
  auto keys = place_of(layout, layer, head, token, !layout.latent);
  auto origin = origin_of(layout, layer, head, token);
  each_key_part(layout, [&](auto& part, auto* sketch) {
    load_part(keys, part, sketch, k + part.begin, origin);
  });
  if (layout.latent) return;
  auto values = place_of(layout, layer, head, token, false);
  load_part(values, layout.values, nullptr, v);
}

void load_difference(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    float* y) {
  auto& part = layout.keys[0];
  auto at = place_of(layout, layer, head, token, true);
  auto& codes = Buffers::mine(part.dim).codes;
  at.get(part, codes.data());
  float norm = load_scalar(FloatType::f16, at.scale(part, part.scales, 0));
  for (int i = 0; i < part.dim; ++i)
    y[i] = norm * part.turbo->centroids[codes[i]];
}

} // namespace mlxlm::kernels

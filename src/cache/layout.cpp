// Groups layers by geometry; see layout.h.
#include "cache/layout.h"

#include <algorithm>

#include "core/check.h"

namespace mlxlm::cache {

namespace {

Geometry geometry(const FullKv& s) {
  return {s.kv_heads, s.head_dim, s.v_dim ? s.v_dim : s.head_dim};
}

Geometry geometry(const SlidingKv& s) {
  MLXLM_CHECK(
      s.window > 0 && s.keep >= 0 && s.keep < s.window,
      "a sliding layer needs a window, larger than what it keeps");
  int v_dim = s.v_dim ? s.v_dim : s.head_dim;
  Geometry g{s.kv_heads, s.head_dim, v_dim, s.window};
  g.chunked = s.chunked;
  g.keep = s.keep;
  return g;
}

Geometry geometry(const LatentKv& s) {
  Geometry g{1, s.rank + s.rope, s.rank};
  g.latent = true;
  g.readable = s.readable;
  g.exact = s.exact;
  return g;
}

struct Builder {
  Layout& layout;

  void operator()(std::monostate) {
    layout.layers.push_back({});
  }

  void operator()(const Recurrent& spec) {
    int slot = int(layout.recurrent.size());
    layout.recurrent.push_back(spec);
    layout.layers.push_back({Layer::Kind::recurrent, -1, slot, false});
  }

  void operator()(const SharedKv& spec) {
    bool good = spec.source >= 0 && spec.source < int(layout.layers.size()) &&
        layout.layers[spec.source].kind == Layer::Kind::keys_values;
    if (!good) {
      fail(
          ErrorKind::internal,
          "cache layout",
          "expected layer {} to borrow from an earlier layer with keys, found {}",
          layout.layers.size(),
          spec.source);
    }
    auto layer = layout.layers[spec.source];
    layer.borrows = true;
    layout.layers.push_back(layer);
  }

  template <typename Spec>
  void operator()(const Spec& spec) {
    auto shape = geometry(spec);
    MLXLM_CHECK(
        shape.kv_heads > 0 && shape.k_dim > 0 && shape.v_dim > 0,
        "a layer's keys and values need positive sizes");
    auto& groups = layout.groups;
    auto found = std::find_if(groups.begin(), groups.end(), [&](auto& group) {
      return group.geometry == shape;
    });
    if (found == groups.end()) {
      groups.push_back({shape, 0});
      found = groups.end() - 1;
    }
    found->order.push_back(shape.exact ? -1 : layout.with_keys++);
    layout.layers.push_back(
        {Layer::Kind::keys_values,
         int(found - groups.begin()),
         found->layers++,
         false});
  }
};

} // namespace

std::size_t Geometry::bytes_per_token(mx::Dtype type) const {
  return std::size_t(kv_heads) * (k_dim + (latent ? 0 : v_dim)) *
      mx::size_of(type);
}

std::vector<std::pair<int, int>> Geometry::shown(int length) const {
  if (window == 0 || length <= window) return {{0, length}};
  std::vector<std::pair<int, int>> out;
  if (keep > 0) out.emplace_back(0, keep);
  out.emplace_back(length - (window - keep), length);
  return out;
}

Layout::Layout(const std::vector<CacheSpec>& specs) {
  for (auto& spec : specs)
    std::visit(Builder{*this}, spec);
}

std::size_t Layout::state_bytes() const {
  std::size_t total = 0;
  for (auto& layer : recurrent) {
    for (auto& state : layer.states) {
      std::size_t values = 1;
      for (auto n : state.shape)
        values *= n;
      total += values * mx::size_of(state.dtype);
    }
  }
  return total;
}

void Layout::limit(int tokens, int keep) {
  if (tokens == 0) return;
  if (keep < 0 || keep >= tokens) {
    fail(
        ErrorKind::request,
        "max kv size",
        "expected more than the {} tokens kept for ever, found {}",
        keep,
        tokens);
  }
  for (auto& group : groups) {
    auto& g = group.geometry;
    if (g.window > 0 || g.readable) continue;
    g.window = tokens;
    g.keep = keep;
  }
}

} // namespace mlxlm::cache

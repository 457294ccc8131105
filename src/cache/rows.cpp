// Rows of a layer as plain numbers; see rows.h.
#include "cache/rows.h"

#include "core/check.h"

namespace mlxlm::cache {

namespace {

std::vector<float> decoded(const CacheRows::Codes& from, int group) {
  std::vector<float> out(from.codes.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto g = i / group;
    out[i] = from.scales[g] * float(from.codes[i]) + from.biases[g];
  }
  return out;
}

} // namespace

void check_rows(const CacheRows& rows, const Geometry& g) {
  auto heads = std::size_t(rows.count) * g.kv_heads;
  bool good = true;
  if (rows.bits == 0) {
    good = rows.k.size() == heads * g.k_dim &&
        (g.latent || rows.v.size() == heads * g.v_dim);
  } else {
    auto fits = [&](const CacheRows::Codes& x, int dim) {
      return dim % rows.group == 0 && x.codes.size() == heads * dim &&
          x.scales.size() == x.codes.size() / rows.group &&
          x.biases.size() == x.scales.size();
    };
    good = !g.latent && rows.group > 0 && fits(rows.k_codes, g.k_dim) &&
        fits(rows.v_codes, g.v_dim);
  }
  MLXLM_CHECK(good, "rows of the layer's shape");
}

CacheRows decoded(const CacheRows& rows, const Geometry& geometry) {
  check_rows(rows, geometry);
  if (rows.bits == 0) return rows;
  return {
      rows.count,
      decoded(rows.k_codes, rows.group),
      decoded(rows.v_codes, rows.group)};
}

} // namespace mlxlm::cache

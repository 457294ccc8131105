// For tests: what keys that are differences from centers come back as, token
// after token, without pages.
#pragma once

#include <mlx/types/half_types.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cache/memory.h"
#include "runtime/kernels/attention/key_center.h"
#include "runtime/kernels/attention/key_stretch.h"
#include "runtime/kernels/attention/row_coder.h"
#include "runtime/kernels/attention/turbo.h"

namespace mlxlm::testing {

class CenteredKeys {
 public:
  using Floats = std::vector<float>;

  CenteredKeys(const KvStorage& storage, int page_tokens, int heads, int dim)
      : tokens_(page_tokens),
        plain_((storage.plain_tokens + page_tokens - 1) / page_tokens),
        heads_(heads),
        dim_(dim),
        state_(
            dim,
            storage.keys.bits,
            kernels::reference::key_seed,
            storage.keys.sketch) {}

  // k [N, kv_heads, dim]; rows of plain pages as they are. energy: of every
  // token's queries, the same shape.
  Floats operator()(const Floats& k, const Floats& energy) const {
    Floats out(k.size());
    for (int h = 0; h < heads_; ++h)
      head(k, energy, h, out);
    return out;
  }

 private:
  // What a page is told by those before and tells the next.
  struct Page {
    Floats center, sum, moved; // stretched and rotated; moves by its blocks
    Floats total, energy; // of a plain page: sums of keys and their squares
    std::vector<std::int8_t> steps;
    bool plain = false;
  };

  static float half(float x) {
    return float(mlx::core::float16_t(x));
  }

  Page blank(bool plain) const {
    Floats none(dim_);
    std::vector<std::int8_t> steps(dim_);
    return {none, none, none, none, none, steps, plain};
  }

  Page behind(const Page& last, const float* energy, bool plain) const {
    auto page = blank(plain);
    if (plain) return page;
    Floats center(dim_), keys(dim_), by(dim_);
    for (int d = 0; d < dim_; ++d) {
      float mean = last.total[d] / float(tokens_);
      center[d] = last.plain ? mean : last.center[d] + last.sum[d];
      keys[d] = last.energy[d] / float(tokens_);
      if (last.plain) keys[d] -= mean * mean;
    }
    page.steps = last.steps;
    if (!last.plain) {
      state_.rotation.inverse(center.data());
      kernels::shrink_factors(last.steps.data(), dim_, by.data());
      for (int d = 0; d < dim_; ++d)
        center[d] *= by[d];
    }
    if (!std::isnan(energy[0]))
      kernels::move_stretch(energy, keys.data(), dim_, page.steps.data());
    kernels::stretch_factors(page.steps.data(), dim_, by.data());
    for (int d = 0; d < dim_; ++d)
      center[d] *= by[d];
    state_.rotation.apply(center.data());
    for (int d = 0; d < dim_; ++d)
      page.center[d] = half(center[d]);
    return page;
  }

  void head(const Floats& k, const Floats& energy, int h, Floats& out) const {
    int n = int(k.size()) / heads_ / dim_;
    auto page = blank(plain_ > 0);
    Floats first(k.begin() + h * dim_, k.begin() + (h + 1) * dim_);
    state_.rotation.apply(first.data());
    for (int d = 0; d < dim_; ++d)
      page.center[d] = half(first[d]);
    for (int t = 0; t < n; ++t) {
      auto at = (t * heads_ + h) * dim_;
      int number = t / tokens_;
      if (t > 0 && t % tokens_ == 0) {
        Floats queries(energy.begin() + at, energy.begin() + at + dim_);
        if (!kernels::measures_stretch(number)) queries[0] = NAN;
        page = behind(page, queries.data(), number < plain_);
      }
      if (t % tokens_ % kernels::center_block == 0) page.moved = page.sum;
      Floats y(k.begin() + at, k.begin() + at + dim_);
      if (page.plain) {
        for (int d = 0; d < dim_; ++d) {
          page.total[d] += y[d];
          page.energy[d] += y[d] * y[d];
        }
      } else {
        difference(y, page);
      }
      std::copy_n(y.begin(), dim_, out.begin() + at);
    }
  }

  void difference(Floats& y, Page& page) const {
    std::vector<std::uint8_t> codes(dim_), signs(dim_);
    Floats scratch(2 * dim_), by(dim_), part(dim_);
    kernels::TurboRow row{codes.data(), 0, signs.data()};
    kernels::stretch_factors(page.steps.data(), dim_, by.data());
    for (int d = 0; d < dim_; ++d)
      y[d] *= by[d];
    state_.rotation.apply(y.data());
    for (int d = 0; d < dim_; ++d)
      y[d] -= page.center[d] + page.moved[d];
    turbo_encode_rotated(
        state_, y.data(), row, scratch.data(), kernels::TurboNorm::product);
    row.norm = half(row.norm);
    row.residual = half(row.residual);
    turbo_decode_rotated(state_, row, y.data(), scratch.data());
    for (int d = 0; d < dim_; ++d) {
      part[d] = row.norm * state_.centroids[row.codes[d]];
      y[d] += page.center[d] + page.moved[d];
      page.sum[d] += kernels::center_step * part[d];
    }
    state_.rotation.inverse(y.data());
    state_.rotation.inverse(part.data());
    for (int d = 0; d < dim_; ++d) {
      y[d] /= by[d];
      page.energy[d] += part[d] / by[d] * (part[d] / by[d]);
    }
  }

  int tokens_, plain_, heads_, dim_;
  kernels::TurboState state_;
};

} // namespace mlxlm::testing

// For tests: what keys that are differences from centers come back as, token
// after token, without pages.
#pragma once

#include <mlx/types/half_types.h>

#include <algorithm>
#include <vector>

#include "cache/memory.h"
#include "runtime/kernels/attention/key_center.h"
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

  // k [N, kv_heads, dim]; rows of plain pages as they are.
  Floats operator()(const Floats& k) const {
    Floats out(k.size());
    for (int h = 0; h < heads_; ++h)
      head(k, h, out);
    return out;
  }

 private:
  static float half(float x) {
    return float(mlx::core::float16_t(x));
  }

  void head(const Floats& k, int h, Floats& out) const {
    int n = int(k.size()) / heads_ / dim_;
    Floats center(dim_), moved(dim_), sum(dim_);
    for (int t = 0; t < n; ++t) {
      bool plain = t / tokens_ < plain_;
      if (t % tokens_ == 0) {
        for (int d = 0; d < dim_; ++d) {
          center[d] = half(plain ? 0 : center[d] + moved[d]);
          moved[d] = sum[d] = 0;
        }
      } else if (t % tokens_ % kernels::center_block == 0) {
        moved = sum;
      }
      auto at = (t * heads_ + h) * dim_;
      Floats y(k.begin() + at, k.begin() + at + dim_);
      state_.rotation.apply(y.data());
      if (plain) {
        for (int d = 0; d < dim_; ++d)
          sum[d] += y[d] / float(tokens_);
      } else {
        difference(y, center, moved, sum);
      }
      if (t % tokens_ == tokens_ - 1) moved = sum;
      state_.rotation.inverse(y.data());
      auto* from = plain ? &k[at] : y.data();
      std::copy_n(from, dim_, out.begin() + at);
    }
  }

  void difference(
      Floats& y,
      const Floats& center,
      const Floats& moved,
      Floats& sum) const {
    std::vector<std::uint8_t> codes(dim_), signs(dim_);
    Floats scratch(2 * dim_);
    kernels::TurboRow row{codes.data(), 0, signs.data()};
    for (int d = 0; d < dim_; ++d)
      y[d] -= center[d] + moved[d];
    turbo_encode_rotated(state_, y.data(), row, scratch.data());
    row.norm = half(row.norm);
    row.residual = half(row.residual);
    turbo_decode_rotated(state_, row, y.data(), scratch.data());
    for (int d = 0; d < dim_; ++d) {
      y[d] += center[d] + moved[d];
      sum[d] +=
          kernels::center_step * row.norm * state_.centroids[row.codes[d]];
    }
  }

  int tokens_, plain_, heads_, dim_;
  kernels::TurboState state_;
};

} // namespace mlxlm::testing

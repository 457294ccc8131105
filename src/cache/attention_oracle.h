// For tests: attention as a loop over every row a layer ever stored, in
// doubles.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cache/memory.h"

namespace mlxlm::testing {

using Floats = std::vector<float>;

struct LayerShape {
  int kv_heads, k_dim, v_dim, window; // window 0: none
  bool latent = false;
  bool chunked = false;
  int keep = 0;
};

constexpr int queries_per_head = 3;

// Rows one sequence has stored in one layer, token after token, and what they
// are once packed.
struct Rows {
  Floats k, v;
  Floats packed_k = {}, packed_v = {};
  Floats energy = {}; // of queries, as keys; see key_center_oracle.h
};

class AttentionOracle {
 public:
  AttentionOracle(
      const LayerShape& shape,
      const AttendOptions& options,
      Floats sinks)
      : shape_(shape), options_(options), sinks_(std::move(sinks)) {}

  // q: [H, k_dim] of token `index` of a segment at `offset`, which `rows`
  // already hold; own: the same, of which the token sees its own.
  Floats attend(
      const Rows& rows,
      const Rows& own,
      const float* q,
      int offset,
      int index) const {
    Floats out;
    for (int h = 0; h < shape_.kv_heads * queries_per_head; ++h) {
      auto head = one_head(rows, own, q + h * shape_.k_dim, offset, index, h);
      out.insert(out.end(), head.begin(), head.end());
    }
    return out;
  }

 private:
  // The tokens one sees: the window's, or as a rotating cache of `window` slots
  // shows them, the first `keep` never overwritten.
  std::vector<int> seen(int offset, int index) const {
    std::vector<int> slots;
    int position = offset + index;
    if (shape_.chunked) {
      for (int j = position - position % shape_.window; j <= position; ++j)
        slots.push_back(j);
      return slots;
    }
    int window = shape_.window ? shape_.window : offset + index + 1;
    for (int j = 0; j < offset; ++j) {
      if (j < shape_.keep || j > offset - (window - shape_.keep)) {
        slots.push_back(j);
      }
    }
    for (int i = 0; i <= index; ++i)
      slots.push_back(offset + i);
    int extra = std::max(0, int(slots.size()) - window);
    return {slots.begin() + extra, slots.end()};
  }

  Floats one_head(
      const Rows& rows,
      const Rows& own,
      const float* q,
      int offset,
      int index,
      int h) const {
    auto tokens = seen(offset, index);
    int kv = h / queries_per_head;
    std::vector<double> scores;
    auto of = [&](int j) -> auto& { return j == offset + index ? own : rows; };
    for (int j : tokens) {
      auto* k = &of(j).k[(j * shape_.kv_heads + kv) * shape_.k_dim];
      double s = 0;
      for (int d = 0; d < shape_.k_dim; ++d)
        s += double(q[d]) * k[d];
      s *= options_.scale;
      if (options_.softcap > 0) {
        s = options_.softcap * std::tanh(s / options_.softcap);
      }
      scores.push_back(s);
    }
    double total = sinks_.empty() ? 0 : std::exp(double(sinks_[h]));
    for (auto& s : scores)
      total += s = std::exp(s);
    Floats out(shape_.v_dim);
    for (int d = 0; d < shape_.v_dim; ++d) {
      double sum = 0;
      for (std::size_t j = 0; j < tokens.size(); ++j)
        sum += scores[j] * value(of(tokens[j]), tokens[j], kv, d);
      out[d] = float(sum / total);
    }
    return out;
  }

  float value(const Rows& rows, int j, int kv, int d) const {
    if (shape_.latent) return rows.k[j * shape_.k_dim + d];
    return rows.v[(j * shape_.kv_heads + kv) * shape_.v_dim + d];
  }

  LayerShape shape_;
  AttendOptions options_;
  Floats sinks_;
};

} // namespace mlxlm::testing

#include "runtime/kernels/routing.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "runtime/kernels/ops.h"
#include "runtime/kernels/ops/order.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/row_view.h"

namespace mlxlm::kernels {

namespace {

// One token's choice; buffers are kept from token to token.
class Chooser {
 public:
  Chooser(const Routing& r, const float* correction)
      : r_(r), correction_(correction) {}

  void operator()(
      const float* logits,
      int experts,
      std::uint32_t* ids,
      float* weights) {
    score(logits, experts);
    rank_.assign(scores_.begin(), scores_.end());
    if (correction_)
      for (int i = 0; i < experts; ++i)
        rank_[i] += correction_[i];
    if (r_.groups > 1) keep_groups(experts);
    order_.resize(experts);
    std::iota(order_.begin(), order_.end(), 0);
    best(order_, rank_, r_.top_k);
    float sum = 0;
    for (int j = 0; j < r_.top_k; ++j) {
      ids[j] = order_[j];
      weights[j] = scores_[order_[j]];
      sum += weights[j];
    }
    float factor = r_.scale;
    if (r_.normalize) factor /= sum + r_.normalize_eps;
    for (int j = 0; j < r_.top_k; ++j)
      weights[j] *= factor;
  }

 private:
  void score(const float* logits, int experts) {
    scores_.resize(experts);
    if (r_.score == Routing::Score::sigmoid) {
      for (int i = 0; i < experts; ++i)
        scores_[i] = 1 / (1 + std::exp(-logits[i]));
      return;
    }
    float most = *std::max_element(logits, logits + experts), sum = 0;
    for (int i = 0; i < experts; ++i)
      sum += scores_[i] = std::exp(logits[i] - most);
    for (auto& s : scores_)
      s /= sum;
  }

  // The k first of `order` become the best by value.
  static void best(
      std::vector<std::uint32_t>& order,
      const std::vector<float>& value,
      int k) {
    auto better = [&](std::uint32_t a, std::uint32_t b) {
      return comes_before(value.data(), a, b);
    };
    std::partial_sort(order.begin(), order.begin() + k, order.end(), better);
  }

  void keep_groups(int experts) {
    int size = experts / r_.groups;
    group_.resize(r_.groups);
    for (int g = 0; g < r_.groups; ++g) {
      auto first = rank_.begin() + g * size;
      std::vector<float> members(first, first + size);
      int count = std::min(r_.pairs ? 2 : 1, size);
      std::partial_sort(
          members.begin(),
          members.begin() + count,
          members.end(),
          std::greater<>());
      group_[g] =
          std::accumulate(members.begin(), members.begin() + count, 0.0f);
    }
    order_.resize(r_.groups);
    std::iota(order_.begin(), order_.end(), 0);
    best(order_, group_, r_.top_groups);
    for (std::size_t i = r_.top_groups; i < order_.size(); ++i) {
      auto first = rank_.begin() + order_[i] * size;
      std::fill(first, first + size, -std::numeric_limits<float>::infinity());
    }
  }

  const Routing& r_;
  const float* correction_;
  std::vector<float> scores_, rank_, group_;
  std::vector<std::uint32_t> order_;
};

struct Route {
  static constexpr const char* name = "mlxlm::route";
  Routing routing;

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    for (auto& x : out)
      allocate(x);
    std::optional<RowView> correction;
    if (in.size() > 1) correction = RowView(in[1]);
    dispatch(
        stream,
        [r = routing,
         correction,
         logits = RowView(in[0]),
         tokens = std::size_t(in[0].shape(0)),
         experts = in[0].shape(1),
         ids = out[0].data<std::uint32_t>(),
         weights = out[1].data<float>()] {
          auto cost = 16 * std::size_t(experts);
          for_row_blocks(tokens, cost, [&](auto first, auto last) {
            std::vector<std::byte> apart(2 * logits.row_bytes());
            const float* plus = nullptr;
            if (correction) {
              plus = reinterpret_cast<const float*>(
                  correction->row(0, apart.data() + logits.row_bytes()));
            }
            Chooser choose(r, plus);
            for (auto t = first; t < last; ++t) {
              auto* row =
                  reinterpret_cast<const float*>(logits.row(t, apart.data()));
              choose(row, experts, ids + t * r.top_k, weights + t * r.top_k);
            }
          });
        });
  }

  Arrays reference(const Arrays& in) const {
    std::optional<mx::array> correction;
    if (in.size() > 1) correction = in[1];
    auto [ids, weights] = kernels::reference::route(in[0], correction, routing);
    return {ids, weights};
  }
};

// -inf for every expert [T, E] outside the best groups.
mx::array best_groups(const mx::array& rank, const Routing& r) {
  int tokens = rank.shape(0), size = rank.shape(1) / r.groups;
  auto grouped = mx::reshape(rank, {tokens, r.groups, size});
  auto value = r.pairs
      ? mx::sum(kernels::top_k(grouped, std::min(2, size)).second, -1)
      : mx::max(grouped, -1);
  auto best = kernels::top_k(value, r.top_groups).first; // [T, top_groups]
  auto all = mx::arange(0, r.groups, 1, mx::uint32);
  auto kept =
      mx::any(mx::equal(mx::expand_dims(best, -1), all), 1); // [T, groups]
  auto outside = mx::array(-std::numeric_limits<float>::infinity());
  auto out = mx::where(mx::expand_dims(kept, -1), grouped, outside);
  return mx::reshape(out, {tokens, rank.shape(1)});
}

} // namespace

std::pair<mx::array, mx::array> route(
    const mx::array& logits,
    const std::optional<mx::array>& correction,
    const Routing& routing) {
  bool fast = on_cpu() && logits.ndim() == 2 && logits.size() > 0 &&
      logits.dtype() == mx::float32 && routing.top_k <= logits.shape(1) &&
      (!correction || correction->dtype() == mx::float32);
  if (!fast) return reference::route(logits, correction, routing);
  Arrays in{logits};
  if (correction) in.push_back(*correction);
  mx::Shape shape{logits.shape(0), routing.top_k};
  auto out =
      cpu_arrays(Route{routing}, {shape, shape}, {mx::uint32, mx::float32}, in);
  return {out[0], out[1]};
}

namespace reference {

std::pair<mx::array, mx::array> route(
    const mx::array& logits,
    const std::optional<mx::array>& correction,
    const Routing& routing) {
  auto scores = routing.score == Routing::Score::sigmoid
      ? mx::sigmoid(logits)
      : mx::softmax(logits, -1, true);
  return route_scores(scores, correction, routing);
}

std::pair<mx::array, mx::array> route_scores(
    const mx::array& scores,
    const std::optional<mx::array>& correction,
    const Routing& routing) {
  auto rank = correction ? scores + *correction : scores;
  if (routing.groups > 1) rank = best_groups(rank, routing);
  auto ids = kernels::top_k(rank, routing.top_k).first;
  auto weights = mx::take_along_axis(scores, ids, -1);
  if (routing.normalize) {
    auto sum = mx::sum(weights, -1, true);
    weights = weights / (sum + mx::array(routing.normalize_eps));
  }
  if (routing.scale != 1) weights = weights * mx::array(routing.scale);
  return {ids, weights};
}

} // namespace reference

} // namespace mlxlm::kernels

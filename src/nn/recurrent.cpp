#include "nn/recurrent.h"

#include <mlx/ops.h>

#include <algorithm>
#include <numeric>

#include "runtime/slices.h"

namespace mlxlm {

namespace {

// Whether the batch's tokens lie one after another in the pass.
bool adjacent(const SegmentBatch& b) {
  for (int i = 0; i < b.size(); ++i)
    if (b.segments[i].first != b.segments[0].first + i * b.count) return false;
  return true;
}

mx::Shape batched(const mx::array& x, int size, int count) {
  auto shape = x.shape();
  shape[0] = size;
  shape[1] = count;
  return shape;
}

} // namespace

std::vector<SegmentBatch> batches(const Step& step) {
  std::vector<SegmentBatch> out;
  for (const auto& s : step.segments()) {
    auto same = std::find_if(out.begin(), out.end(), [&](const auto& b) {
      return b.count == s.count;
    });
    if (same == out.end())
      out.push_back({{s}, s.count});
    else
      same->segments.push_back(s);
  }
  return out;
}

mx::array SegmentBatch::of(const mx::array& x) const {
  int first = segments[0].first;
  if (adjacent(*this))
    return mx::reshape(
        slice_axis(x, 1, first, first + size() * count),
        batched(x, size(), count));
  std::vector<mx::array> parts;
  for (const auto& s : segments)
    parts.push_back(slice_axis(x, 1, s.first, s.first + count));
  return mx::concatenate(std::move(parts), 0);
}

mx::array SegmentBatch::state(LayerCache& cache, int index) const {
  std::vector<mx::array> parts;
  for (const auto& s : segments)
    parts.push_back(cache.state(s, index));
  return mx::concatenate(std::move(parts), 0);
}

void SegmentBatch::set_state(
    LayerCache& cache,
    int index,
    const mx::array& value) const {
  for (int i = 0; i < size(); ++i)
    cache.set_state(
        segments[i],
        index,
        size() == 1 ? value : slice_axis(value, 0, i, i + 1));
}

mx::array in_order(
    const std::vector<SegmentBatch>& batches,
    const std::vector<mx::array>& results) {
  std::vector<mx::array> flat;
  std::vector<int> place; // of each row of the results laid end to end
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const auto& b = batches[i];
    flat.push_back(
        mx::reshape(results[i], batched(results[i], 1, b.size() * b.count)));
    for (const auto& s : b.segments)
      for (int t = 0; t < b.count; ++t)
        place.push_back(s.first + t);
  }
  auto all = mx::concatenate(std::move(flat), 1);
  if (std::is_sorted(place.begin(), place.end())) return all;
  std::vector<int> source(place.size());
  for (std::size_t i = 0; i < place.size(); ++i)
    source[place[i]] = static_cast<int>(i);
  return mx::take(
      all,
      mx::array(source.data(), {static_cast<int>(source.size())}, mx::int32),
      1);
}

std::pair<mx::array, mx::array> causal_conv(
    const mx::array& x,
    const mx::array& state,
    const mx::array& weight,
    const std::optional<mx::array>& bias) {
  int length = x.shape(1), taps = weight.shape(1);
  auto past = mx::concatenate({mx::astype(state, x.dtype()), x}, 1);
  std::optional<mx::array> y;
  for (int k = 0; k < taps; ++k) {
    auto tap = mx::squeeze(slice_axis(weight, 1, k, k + 1), 1); // [C]
    auto term = slice_axis(past, 1, k, k + length) * tap;
    y = y ? *y + term : term;
  }
  if (bias) y = *y + *bias;
  // Contiguous, so that the state does not keep the whole pass alive.
  auto next = mx::contiguous(slice_axis(past, 1, length, length + taps - 1));
  return {*y, next};
}

namespace {

mx::array joined_weights(
    const Scope& s,
    const std::vector<std::string>& names,
    int channels,
    int taps) {
  std::vector<mx::array> parts;
  int left = channels;
  for (std::size_t i = 0; i < names.size(); ++i) {
    int others = static_cast<int>(names.size() - i);
    int stored = s.stored_rows(names[i]);
    bool own = others > 1 && stored > 0 && stored < left;
    int rows = own ? stored : left / others;
    parts.push_back(*(s / names[i]).param("weight", {rows, taps}));
    left -= rows;
  }
  return mx::concatenate(std::move(parts), 0);
}

} // namespace

ShortConv::ShortConv(
    const Scope& s,
    const std::vector<std::string>& names,
    int channels,
    int taps,
    Bias bias)
    : weight_(joined_weights(s, names, channels, taps)),
      taps_(mx::contiguous(mx::transpose(mx::astype(weight_, mx::float32)))) {
  if (bias != Bias::none) bias_ = (s / names[0]).param("bias", {channels});
}

mx::array ShortConv::operator()(
    const mx::array& x,
    const SegmentBatch& g,
    LayerCache& cache,
    int index) const {
  std::optional<mx::array> bias;
  if (bias_) bias = **bias_;
  auto [y, next] = causal_conv(x, g.state(cache, index), weight_, bias);
  g.set_state(cache, index, next);
  return y;
}

mx::array ShortConv::operator()(
    const mx::array& x,
    const kernels::StatePlacesPtr& states,
    const kernels::ConvOptions& options) const {
  std::optional<mx::array> bias;
  if (bias_) bias = mx::astype(**bias_, mx::float32);
  return kernels::short_conv(x, taps_, bias, states, options);
}

Recurrent::State ShortConv::state() const {
  return {{weight_.shape(1) - 1, weight_.shape(0)}, weight_.dtype()};
}

mx::array softplus(const mx::array& x) {
  return mx::logaddexp(x, mx::array(0, x.dtype()));
}

} // namespace mlxlm

#include "nn/rope.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "nn/rope_plan.h"
#include "runtime/slices.h"

namespace mlxlm {

namespace {

// The segment's tokens, which lie along `axis`.
mx::array tokens(const mx::array& x, int axis, const Segment& s) {
  return slice_axis(x, axis, s.first, s.first + s.count);
}

} // namespace

Rope Rope::from(const Fields& f, int head_dim, const RopeOptions& o) {
  return Rope(std::make_shared<RopePlan>(f, head_dim, o));
}

Rope Rope::plain(int dims, double theta, bool traditional) {
  return Rope(std::make_shared<RopePlan>(dims, theta, traditional));
}

mx::array Rope::operator()(const mx::array& x, const Step& step) const {
  if (!plan_) return x;
  const std::vector<kernels::RopeInput> one{{x, x.shape(3)}};
  return (*this)(one, step)[0];
}

std::vector<mx::array> Rope::operator()(
    const std::vector<kernels::RopeInput>& inputs,
    const Step& step) const {
  const auto& p = *plan_;
  auto length = [](const Segment& s) {
    return std::max(s.offset + s.count, s.goal);
  };
  auto shape = [&](int length) {
    return kernels::RopeShape{p.dims, p.traditional, p.magnitude_at(length)};
  };
  if (p.growth == RopePlan::Growth::none)
    return kernels::rope(inputs, step.positions, p.base_array, shape(0));
  const auto& segments = step.segments();
  int first = length(segments.front());
  bool same =
      std::all_of(segments.begin(), segments.end(), [&](const Segment& s) {
        return p.length_class(length(s)) == p.length_class(first);
      });
  if (same)
    return kernels::rope(
        inputs, step.positions, p.array_at(first), shape(first));
  // Sequences of different length classes in one pass.
  std::vector<std::vector<mx::array>> parts(inputs.size());
  for (const auto& s : segments) {
    auto cut = inputs;
    for (auto& in : cut)
      in.x = tokens(in.x, 1, s);
    auto turned = kernels::rope(
        cut,
        tokens(step.positions, 0, s),
        p.array_at(length(s)),
        shape(length(s)));
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts[i].push_back(turned[i]);
  }
  std::vector<mx::array> out;
  for (const auto& part : parts)
    out.push_back(mx::concatenate(part, 1));
  return out;
}

int Rope::dims() const {
  return plan_ ? plan_->dims : 0;
}

std::vector<float> Rope::inverse_frequencies(int length) const {
  return plan_ ? plan_->at(length) : std::vector<float>();
}

float Rope::magnitude() const {
  return plan_ ? plan_->magnitude : 1;
}

mx::array query_temperature(
    const Step& step,
    float beta,
    int original,
    int first) {
  const auto& positions = step.position_list();
  std::vector<float> scale(step.tokens);
  for (int i = 0; i < step.tokens; ++i) {
    float turns =
        std::floor(static_cast<float>(positions[i] + first) / original);
    scale[i] = 1 + beta * std::log1p(turns);
  }
  return mx::array(scale.data(), {1, step.tokens, 1, 1}, mx::float32);
}

} // namespace mlxlm

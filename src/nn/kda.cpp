#include "nn/kda.h"

#include <mlx/ops.h>

#include "nn/fused.h"

namespace mlxlm {

namespace {

// x through one matrix or two.
class Gate {
 public:
  Gate(const Scope& s, const std::string& name, const KdaOptions& o) {
    int width = o.heads * o.head_dim;
    if (s.has(name + "_proj")) {
      steps_.push_back(s.linear(name + "_proj", o.hidden, width));
    } else {
      steps_.push_back(s.linear(name + "_a_proj", o.hidden, o.head_dim));
      steps_.push_back(s.linear(name + "_b_proj", o.head_dim, width));
    }
  }
  mx::array operator()(mx::array x) const {
    for (const auto& step : steps_)
      x = step(x);
    return x;
  }

 private:
  std::vector<Linear> steps_;
};

class Kda : public DeltaMixer {
 public:
  Kda(const Scope& s, const KdaOptions& o)
      : DeltaMixer(parts(s, o)),
        o_(o),
        f_(s, "f", o),
        g_(s, "g", o),
        b_(s.linear("b_proj", o.hidden, o.heads)),
        a_log_(s.param("A_log", {o.heads}, mx::float32)),
        dt_bias_(s.param("dt_bias", {o.heads * o.head_dim}, mx::float32)) {
    for (auto name : {"q_proj", "k_proj", "v_proj"})
      in_.push_back(s.linear(name, o.hidden, o.heads * o.head_dim));
  }

 private:
  static Parts parts(const Scope& s, const KdaOptions& o) {
    DeltaShape shape{o.heads, o.heads, o.head_dim, o.head_dim};
    return {
        shape,
        ShortConv(
            s,
            {"q_conv1d", "k_conv1d", "v_conv1d"},
            shape.channels(),
            o.kernel),
        s.linear("o_proj", shape.values(), o.hidden),
        s.param("o_norm.weight", {o.head_dim}, mx::float32),
        o.eps,
        true};
  }

  // [1, N, H, D]: how much of each channel stays.
  mx::array decay(const mx::array& x) const {
    auto f = mx::astype(f_(x), mx::float32) + *dt_bias_;
    f = mx::reshape(f, {1, x.shape(1), o_.heads, o_.head_dim});
    auto rate = mx::expand_dims(mx::exp(*a_log_), -1);
    auto log = o_.lower_bound
        ? mx::array(*o_.lower_bound) * mx::sigmoid(rate * f)
        : mx::negative(rate) * softplus(f);
    return mx::exp(log);
  }

  Inputs inputs(const mx::array& x) const override {
    return {
        mx::concatenate(linears(x, in_), -1),
        decay(x),
        mx::sigmoid(mx::astype(b_(x), mx::float32)),
        g_(x)};
  }

  KdaOptions o_;
  Gate f_, g_;
  Linear b_;
  Param a_log_, dt_bias_;
  std::vector<Linear> in_;
};

} // namespace

BlockPtr kda(const Scope& s, const KdaOptions& options) {
  return std::make_unique<Kda>(s, options);
}

} // namespace mlxlm
